//! Whoever asks for traces of a build that has none is told.

use crate::server::{Server, mock, serve};

#[tokio::test(flavor = "multi_thread")]
async fn it_says_that_it_has_no_opentelemetry() {
    let mock = mock().await;
    for (variables, told) in [(&[][..], false), (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")][..], true)] {
        let server = Server::start(serve(&mock, variables));
        let (status, log) = tokio::task::spawn_blocking(|| server.end()).await.unwrap();
        assert!(status.success(), "{log}");
        assert_eq!(log.contains("this build has no OpenTelemetry"), told, "{log}");
    }
}
