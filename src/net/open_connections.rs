//! How many connections are open.

use std::sync::Arc;

use tokio::sync::watch;

/// Counts the open connections of a server.
#[derive(Debug, Default)]
pub struct OpenConnections(watch::Sender<usize>);

/// One of them. It counts until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(Arc<OpenConnections>);

impl OpenConnections {
    /// Counts one more.
    pub fn enter(self: &Arc<Self>) -> OpenConnection {
        self.0.send_modify(|open| *open += 1);
        OpenConnection(Arc::clone(self))
    }

    /// Waits until all are closed.
    pub async fn all_closed(&self) {
        // Can't fail: `self` holds the sender.
        let _ = self.0.subscribe().wait_for(|open| *open == 0).await;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_the_last_connection_is_noticed() {
        let connections = Arc::<OpenConnections>::default();
        connections.all_closed().await;
        let (first, second) = (connections.enter(), connections.enter());
        drop(first);
        let waiting = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.all_closed().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
    }
}
