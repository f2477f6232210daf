//! How long a commit takes when nothing else happens, and how many requests a second are begun and finished when many are open.
//!
//!     cargo bench -p bantam-ledger --bench commit [-- postgres://user@host/database]

use std::time::{Duration, Instant};

use bantam_ledger::{Begin, Estimate, Ledger, LedgerConfig, Outcome, Timestamp, TokenCounts};
use bantam_types::NanoDollars;
use uuid::Uuid;

fn begin() -> Begin {
    Begin {
        request: Uuid::now_v7(),
        at: Timestamp::now(),
        key: None,
        surface: "chat".into(),
        route: Some("default".into()),
        model: "auto".into(),
        subject: None,
        estimate: Estimate { cost: NanoDollars(1000), tokens: 100 },
    }
}

fn outcome() -> Outcome {
    Outcome {
        status: 200,
        decision: serde_json::json!({ "policy": { "rule": "default", "action": "allow" }, "router": { "choose": "small", "p": 931 } }),
        provider: Some("local".into()),
        model: Some("smollm2-135m-instruct".into()),
        model_digest: Some("9f".repeat(32)),
        tokens: TokenCounts { input: 40, output: 20, ..TokenCounts::default() },
        latency: Duration::from_millis(12),
        cost: NanoDollars(900),
        counterfactual: Some(NanoDollars(9000)),
        stop: Some("stop".into()),
        streamed: true,
        ..Outcome::default()
    }
}

fn quantiles(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_micros();
    println!("{name:<28} p50 {:>6} us   p95 {:>6} us   p99 {:>6} us", at(0.5), at(0.95), at(0.99));
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir_in(std::env::var("BENCH_DIR").unwrap_or_else(|_| "/tmp".to_owned()))?;
    let url = std::env::args().skip(1).find(|arg| arg.starts_with("postgres"));
    let config = match url {
        Some(url) => LedgerConfig::postgres(&url, &dir.path().join("ledger.key")),
        None => LedgerConfig::sqlite(&dir.path().join("ledger.db")),
    };
    let ledger = Ledger::open(config).await?;
    let (mut begins, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..3000 {
        let start = Instant::now();
        let mut ticket = ledger.begin(begin()).await?;
        ticket.durable().await?;
        begins.push(start.elapsed());
        let start = Instant::now();
        ticket.finish(outcome()).await?;
        ends.push(start.elapsed());
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    quantiles("idle: begin to durable", begins.split_off(500));
    quantiles("idle: finish to committed", ends.split_off(500));
    for streams in [16, 64, 256] {
        let (start, each) = (Instant::now(), 30_000 / streams);
        let mut tasks = Vec::new();
        for _ in 0..streams {
            let ledger = ledger.clone();
            tasks.push(tokio::spawn(async move {
                let mut waits = Vec::with_capacity(each);
                for _ in 0..each {
                    let mut ticket = ledger.begin(begin()).await?;
                    ticket.durable().await?;
                    let start = Instant::now();
                    ticket.finish(outcome()).await?;
                    waits.push(start.elapsed());
                }
                Ok::<_, bantam_ledger::BeginError>(waits)
            }));
        }
        let mut waits = Vec::new();
        for task in tasks {
            waits.extend(task.await??);
        }
        let rate = waits.len() as f64 / start.elapsed().as_secs_f64();
        quantiles(&format!("{streams} open: {rate:.0} requests/s"), waits);
    }
    let start = Instant::now();
    ledger.close().await?;
    println!("closed in {} ms", start.elapsed().as_millis());
    Ok(())
}
