//! `bantam route explain`.

use bantam_router::prompt::Asked;
use bantam_router::{Choice, Reason};
use clap::Args;
use serde_json::json;

use super::RouterFile;
use super::vectors::Local;
use crate::cli::Globals;
use crate::load::encoder::EncoderArgs;
use crate::output;

/// Arguments of `bantam route explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The prompt
    prompt: String,
    #[command(flatten)]
    router: RouterFile,
    /// Training prompts to show
    #[arg(long, value_name = "N", default_value_t = 5)]
    similar: usize,
    #[command(flatten)]
    encoder: EncoderArgs,
}

pub(crate) fn run(args: &ExplainArgs, globals: &Globals) -> anyhow::Result<()> {
    let router = args.router.open()?;
    let local = Local::of(&router, &args.encoder, globals)?;
    let asked = Asked::prompt(&args.prompt);
    let vector = local.one(router.encoder(), asked.what_to_embed(router.encoder().tokens))?;
    let decision = router.decide(&asked, &vector)?;
    let similar = router.similar(&asked, &vector, args.similar)?;
    if globals.json {
        return output::print_json(
            &json!({"router": router.fingerprint()?, "decision": decision, "threshold": router.threshold(), "similar": similar}),
        );
    }
    let who = match decision.choose {
        Choice::Small => "the small model answers",
        Choice::Large => "the large model answers",
    };
    let mut said = format!(
        "{who}\n  right with probability: small {:.2}, large {:.2}\n  expected gain of the large model: {:.3}, threshold {:.3}\n  {}",
        decision.p_small,
        decision.p_large,
        decision.gain,
        decision.threshold,
        super::train::threshold(router.threshold()),
    );
    for reason in &decision.reasons {
        if let Reason::Unusual { feature, deviations } = reason {
            said.push_str(&format!("\n  unusual: {feature}, {deviations:+.1} standard deviations"));
        }
    }
    if !similar.is_empty() {
        let score = |score: Option<f32>| score.map_or("-".to_owned(), |score| format!("{score:.2}"));
        let rows = similar.iter().map(|near| {
            let prompt = near.prompt.as_deref().unwrap_or("(not kept)").chars().take(80).collect();
            [format!("{:.2}", near.similarity), score(near.outcome.small), score(near.outcome.large), prompt].to_vec()
        });
        let headers = ["SIMILARITY", "SMALL", "LARGE", "TRAINING PROMPT"];
        said.push_str(&format!("\n\n{}", output::table(&headers, &headers[..3], rows.collect())));
    }
    output::print(&said)
}
