use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use super::{MODEL, Server, http};

const CLIENTS: usize = 64;
const TOKENS: usize = 32;

/// Streams one answer and counts its events as they come.
fn stream(url: &str, client: usize, received: &AtomicUsize) {
    // Any stop token is biased away, so that all answers take equal work.
    let body = format!(
        r#"{{"model":"{MODEL}","prompt":"Story number {client}: once upon a time there was","max_tokens":{TOKENS},"stream":true,
            "logit_bias":{{"0":-100,"2":-100}}}}"#
    );
    let request = http().post(format!("{url}/v1/completions")).header("content-type", "application/json").body(body);
    let response = request.send().unwrap();
    assert_eq!(response.status(), 200);
    let mut done = false;
    for line in BufReader::new(response).lines() {
        let line = line.unwrap();
        let Some(data) = line.strip_prefix("data: ") else { continue };
        assert!(!data.contains("\"error\""), "{data}");
        done |= data == "[DONE]";
        received.fetch_add(1, Ordering::Relaxed);
    }
    assert!(done, "the stream ended early");
}

/// 64 streams on few cores: all finish, and none is left behind. Fairness is read off the events, not off a clock: when
/// the first client has its whole answer, every other has at least half of its own, so that the slowest takes at most
/// twice as long as the fastest.
#[test]
fn many_streams_finish_together() {
    let server = Server::start(&[]);
    let received: Arc<Vec<AtomicUsize>> = Arc::new((0..CLIENTS).map(|_| AtomicUsize::new(0)).collect());
    let start = Arc::new(Barrier::new(CLIENTS));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (url, received, start) = (server.url.clone(), Arc::clone(&received), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                stream(&url, client, &received[client]);
                received.iter().map(|n| n.load(Ordering::Relaxed)).min().unwrap()
            })
        })
        .collect();
    let least: Vec<usize> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let at_first_finish = least.iter().min().unwrap();
    assert!(
        *at_first_finish >= TOKENS / 2,
        "when one client was done, another had {at_first_finish} events of {TOKENS}"
    );
}
