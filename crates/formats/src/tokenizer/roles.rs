//! Which tokens end a generation.

use super::parts::{RoleIds, TokenType};
use super::vocab::Vocab;

/// Control tokens that end an answer or a turn in the families known. A file's `eos` is one of them at best: a chat
/// model that ends its turn with another would talk on.
const END_OF_GENERATION: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|END_OF_TURN_TOKEN|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<|endofturn|>",
    "<|return|>",
    "<EOT>",
    "▁<EOT>",
    "<｜end▁of▁sentence｜>",
    "</s>",
    "<eos>",
];

/// These are also HTML and XML, which vocabularies have as ordinary user-defined tokens.
const ONLY_AS_CONTROL: &[&str] = &["</s>", "<eos>"];

/// The ids that end a generation, ascending.
pub(super) fn end_of_generation(vocab: &Vocab, roles: &RoleIds) -> Vec<u32> {
    let by_text = END_OF_GENERATION.iter().filter_map(|&text| {
        let id = vocab.id_of(text)?;
        match vocab.type_of(id)? {
            TokenType::Control => Some(id),
            TokenType::UserDefined if !ONLY_AS_CONTROL.contains(&text) => Some(id),
            _ => None,
        }
    });
    let mut ids: Vec<u32> = by_text.chain([roles.eos, roles.eot, roles.eom].into_iter().flatten()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
