//! For visitors that wrap another and look only at objects and arrays: single values go to the one inside as they are.

/// The methods of a `Visitor<'de>` for single values, where `V` is the visitor in that field of `self`.
macro_rules! pass_plain_values {
    ($self:ident.$inner:tt) => {
        pass_plain_values! { $self.$inner;
            visit_bool: bool; visit_i8: i8; visit_i16: i16; visit_i32: i32; visit_i64: i64; visit_i128: i128;
            visit_u8: u8; visit_u16: u16; visit_u32: u32; visit_u64: u64; visit_u128: u128;
            visit_f32: f32; visit_f64: f64; visit_char: char;
            visit_str: &str; visit_borrowed_str: &'de str; visit_string: String;
            visit_bytes: &[u8]; visit_borrowed_bytes: &'de [u8]; visit_byte_buf: Vec<u8>;
        }

        fn visit_none<E: Error>($self) -> Result<V::Value, E> {
            $self.$inner.visit_none()
        }

        fn visit_unit<E: Error>($self) -> Result<V::Value, E> {
            $self.$inner.visit_unit()
        }
    };
    ($self:ident.$inner:tt; $($method:ident: $type:ty;)*) => {
        $(fn $method<E: Error>($self, value: $type) -> Result<V::Value, E> {
            $self.$inner.$method(value)
        })*
    };
}

pub(super) use pass_plain_values;
