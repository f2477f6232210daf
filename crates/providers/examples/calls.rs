//! How many calls a second one core makes through the client: `cargo run --release -p bantam-providers --example calls`.
//!
//! The mock serves on threads of its own; what counts is the processor time of the one thread that calls, so that other work on the
//! machine disturbs little.

#![allow(clippy::print_stdout, reason = "the result")]

use std::time::{Duration, Instant};

use anyhow::Context;
use bantam_providers::call::{Call, Delivery, Outbound, Refusal};
use bantam_providers::client::{Reliability, Upstreams};
use bantam_providers::mock::{Mock, MockConfig};
use bantam_providers::plan::GroupConfig;
use bantam_providers::target::{Target, TargetConfig};
use bantam_providers::wire::Api;
use bytes::Bytes;
use hyper::HeaderMap;

const CALLS: u64 = 100_000;
const AT_ONE_TIME: u64 = 32;
const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"Is the small bird up yet?"}]}"#;

/// Seconds that this thread has run.
fn processor_time() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").context("this needs Linux")?;
    let nanos: f64 = text.split_whitespace().next().context("an empty schedstat")?.parse()?;
    Ok(nanos / 1e9)
}

fn main() -> anyhow::Result<()> {
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mock = server.block_on(Mock::start(MockConfig::default()))?;
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for names in [vec!["a"], vec!["a", "b"]] {
        let (seconds, processor) = client.block_on(measure(&mock, &names))?;
        println!(
            "{} target(s): {:.0} calls/s of processor time ({:.1} us each), {:.0} calls/s by the clock",
            names.len(),
            CALLS as f64 / processor,
            processor / CALLS as f64 * 1e6,
            CALLS as f64 / seconds
        );
    }
    Ok(())
}

async fn measure(mock: &Mock, names: &[&str]) -> anyhow::Result<(f64, f64)> {
    let target = |name: &&str| {
        let base_url = Some(mock.base_url());
        TargetConfig { base_url, ..TargetConfig::new(*name, "vllm", "m") }.resolve()
    };
    let upstreams = Upstreams::new(names.iter().map(target).collect::<Result<_, _>>()?, Reliability::default())?;
    let plan = upstreams.plan(&[GroupConfig::new(names.iter().copied())])?;
    let outgoing = |_: &Target| -> Result<Outbound, Refusal> {
        Ok(Outbound { api: Api::Chat, headers: HeaderMap::new(), body: Bytes::from_static(BODY.as_bytes()) })
    };
    let some = || async {
        for _ in 0..CALLS / AT_ONE_TIME {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
            let answer = upstreams
                .call(&plan, Call { outgoing: &outgoing, delivery: Delivery::Whole, deadline, trace: None })
                .await?;
            anyhow::ensure!(answer.status.is_success(), "status {}", answer.status);
        }
        anyhow::Ok(())
    };
    let (start, processor) = (Instant::now(), processor_time()?);
    futures::future::try_join_all((0..AT_ONE_TIME).map(|_| some())).await?;
    Ok((start.elapsed().as_secs_f64(), processor_time()? - processor))
}
