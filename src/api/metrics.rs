//! `/metrics`: what a monitoring system asks for. No key needed, and no tenant named unless the settings say so.

use std::future::{Ready, ready};

use actix_rt::task::spawn_blocking;
use actix_web::dev::Payload;
use actix_web::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, VARY};
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

use super::auth::{Public, shared};
use super::error::{HandlerResult, Problem};
use super::metric_families::{ConnectionCounts, MetricFamilies, families};
use super::openapi::inputs::{HandlerInput, Reads};
use crate::domain::Code;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Prometheus' own.
    Prometheus,
    /// The standard that came of it.
    OpenMetrics,
}

impl Format {
    /// The one that the caller prefers (RFC 9110, 12.5.1), Prometheus' own where it is as good.
    fn preferred(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(ACCEPT).filter_map(|line| line.to_str().ok());
        let mut best = [0.0_f32; 2];
        for range in lines.flat_map(|line| line.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.filter_map(|part| part.strip_prefix("q=")).find_map(|text| text.parse::<f32>().ok());
            let weight = weight.unwrap_or(1.0);
            let [plain, open] = &mut best;
            match kind.as_str() {
                "application/openmetrics-text" => *open = open.max(weight),
                "text/plain" | "text/*" | "*/*" => *plain = plain.max(weight),
                _ => {}
            }
        }
        let [plain, open] = best;
        if open > plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    fn write(self, all: MetricFamilies) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(all));
        let mut page = String::new();
        match self {
            Self::Prometheus => prometheus_text::encode(&mut page, &registry)?,
            Self::OpenMetrics => text::encode(&mut page, &registry)?,
        }
        Ok(page)
    }
}

/// The format that the client prefers, and the counts of connections.
pub struct Wanted {
    format: Format,
    connections: ConnectionCounts,
}

/// It reads only the header `Accept`, which the media types of its responses document.
impl HandlerInput for Wanted {
    fn describe(_: &mut Reads<'_>) {}
}

impl FromRequest for Wanted {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let format = Format::preferred(request.headers());
        ready(shared(request).map(|shared| Self { format, connections: shared.connections() }))
    }
}

/// `GET /metrics`
pub async fn get(Public(kavach): Public, Wanted { format, connections }: Wanted) -> HandlerResult {
    let figures = kavach.metrics().await?;
    // With a label for each of thousands of tenants the page is long.
    let written = spawn_blocking(move || format.write(MetricFamilies(families(&figures, connections)))).await;
    let page = written.ok().and_then(Result::ok);
    let page = page.ok_or_else(|| Problem::new(Code::InternalError, "the metrics could not be written"))?;
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, format.content_type()));
    response.insert_header((CACHE_CONTROL, "no-store")).insert_header((VARY, "Accept"));
    Ok(response.body(page))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn who_prefers_open_metrics_gets_it() {
        let preferred = |accept: &str| {
            Format::preferred(TestRequest::default().insert_header((ACCEPT, accept)).to_http_request().headers())
        };
        for accept in [
            "application/openmetrics-text",
            "text/plain;version=0.0.4;q=0.5, application/openmetrics-text;version=1.0.0;q=0.75",
            "Application/OpenMetrics-Text; version=1.0.0, */*;q=0.1",
        ] {
            assert_eq!(preferred(accept), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/html,*/*;q=0.8",
            "text/plain, application/openmetrics-text",
            "application/openmetrics-text;q=0",
        ] {
            assert_eq!(preferred(accept), Format::Prometheus, "{accept}");
        }
        assert_eq!(Format::preferred(TestRequest::default().to_http_request().headers()), Format::Prometheus);
    }
}
