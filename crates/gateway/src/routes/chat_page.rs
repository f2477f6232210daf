//! The chat page at `/`: one HTML file that needs nothing else and may load nothing else.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const PAGE: &str = include_str!("chat_page.html");

/// Only the page's own script and style, named by their digests, may run, and only this server may be called.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = |tag: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(inside(tag).as_bytes())));
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        digest("script"),
        digest("style"),
    )
});

/// What stands between the page's only `<tag>` and its end.
fn inside(tag: &str) -> &'static str {
    let text = PAGE.split_once(&format!("<{tag}>")).map_or("", |(_, rest)| rest);
    text.split_once(&format!("</{tag}>")).map_or("", |(text, _)| text)
}

pub(super) async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Html(PAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_self_contained_and_the_policy_names_its_parts() {
        for tag in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{tag}")).count(), 1, "{tag}");
            assert!(inside(tag).len() > 1000, "{tag}");
        }
        for loaded in ["src=", "@import", "url(", "http://", "https://", "innerHTML", "style=\"", " onclick"] {
            assert!(!PAGE.contains(loaded), "{loaded}");
        }
        assert_eq!(POLICY.matches("'sha256-").count(), 2);
    }
}
