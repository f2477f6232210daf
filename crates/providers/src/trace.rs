//! Where a request stands in a trace, as [W3C Trace Context](https://www.w3.org/TR/trace-context/) writes it into a header.

use hyper::header::{HeaderName, HeaderValue};

/// The header.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// One span of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace: u128,
    /// The span; never 0.
    pub span: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a header's value. What is not of the form that the standard has for all its versions is no context.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut hex = |digits: usize| {
            let part = parts.next()?;
            let fits = part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            fits.then(|| u128::from_str_radix(part, 16).ok())?
        };
        let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        // Later versions may have more at the end.
        let known = version != 0xff && (version > 0 || parts.next().is_none());
        let span = u64::try_from(span).ok()?;
        (known && trace != 0 && span != 0).then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    /// A span below this one.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span: fastrand::u64(1..), ..self }
    }

    /// The header's value.
    #[must_use]
    pub fn header(self) -> HeaderValue {
        let Self { trace, span, sampled } = self;
        let text = format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(sampled));
        // Digits and dashes can stand in a header.
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(trace in 1u128.., span in 1u64.., sampled: bool) {
            let context = TraceContext { trace, span, sampled };
            prop_assert_eq!(TraceContext::parse(context.header().to_str().unwrap()), Some(context));
            let child = context.child();
            prop_assert_eq!(TraceContext { span, ..child }, context);
        }

        #[test]
        fn nothing_breaks_it(text in "[0-9a-f-]{0,60}|\\PC*") {
            if let Some(context) = TraceContext::parse(&text) {
                prop_assert!(context.trace != 0 && context.span != 0);
            }
        }
    }

    #[test]
    fn only_what_the_standard_allows_is_taken() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(good).unwrap();
        assert_eq!(
            (context.trace >> 64, context.span, context.sampled),
            (0x4bf9_2f35_77b3_4da6, 0xf0_67aa_0ba9_02b7, true)
        );
        // A later version with something more.
        assert_eq!(TraceContext::parse(&format!("cc{}-what-the-future-brings", &good[2..])), Some(context));
        assert!(!TraceContext::parse(&format!("{}02", &good[..53])).unwrap().sampled);
        for bad in [
            "",
            "00",
            &good[..54],
            &good.to_uppercase(),
            &format!("{good}-x"),
            &format!("ff{}", &good[2..]),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }
}
