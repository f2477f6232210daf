//! Vectors of prompts from an encoder on this machine.

use std::ops::ControlFlow;

use anyhow::ensure;
use bantam_engine::{Embedder, TooLong};
use bantam_router::fit::{Step, embed};
use bantam_router::rows::Row;
use bantam_router::{Embed, EncoderId, Router};

use crate::cli::Globals;
use crate::load::encoder::{EncoderArgs, LoadedEncoder, encoder};
use crate::progress;

/// What an encoder says when it cannot.
#[derive(Debug)]
pub(super) struct EncoderError(String);

impl std::fmt::Display for EncoderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EncoderError {}

/// An encoder of the engine.
pub(super) struct Local {
    pub(super) loaded: LoadedEncoder,
}

impl Local {
    pub(super) fn open(model: &str, args: &EncoderArgs, globals: &Globals) -> anyhow::Result<Self> {
        Ok(Self { loaded: encoder(model, args, globals)? })
    }

    /// The encoder that a router names, which must be the one it was trained on.
    pub(super) fn of(router: &Router, args: &EncoderArgs, globals: &Globals) -> anyhow::Result<Self> {
        let wanted = router.encoder();
        let local = Self::open(&wanted.model, args, globals)?;
        let (found, digest) = (local.loaded.embedder.dimensions(), &local.loaded.digest);
        let same = digest.is_none() || wanted.digest.is_none() || *digest == wanted.digest;
        ensure!(
            found == wanted.dimensions && same,
            "{} is not the encoder that this router was trained on: its digest or its dimensions differ; train again",
            wanted.model
        );
        Ok(local)
    }

    /// How a router that is trained with it names it.
    pub(super) fn id(&self, tokens: usize) -> EncoderId {
        EncoderId {
            model: self.loaded.id.clone(),
            digest: self.loaded.digest.clone(),
            dimensions: self.embedder().dimensions(),
            tokens: tokens.min(self.embedder().context_length()),
        }
    }

    pub(super) fn embedder(&self) -> &Embedder {
        &self.loaded.embedder
    }

    /// The vectors of rows, with a bar.
    pub(super) fn rows(&self, id: &EncoderId, rows: &[Row], globals: &Globals) -> anyhow::Result<Vec<f32>> {
        let bar = progress::share(globals);
        let found = embed(self, id, rows, &mut |step: Step| {
            bar.set_message(step.what);
            bar.set_position((step.share * 1000.0) as u64);
            ControlFlow::Continue(())
        });
        bar.finish_and_clear();
        Ok(found?)
    }

    /// The vector of one text.
    pub(super) fn one(&self, id: &EncoderId, text: String) -> anyhow::Result<Vec<f32>> {
        Ok(self.embed(id, &[text])?)
    }
}

impl Embed for Local {
    type Error = EncoderError;

    fn embed(&self, encoder: &EncoderId, texts: &[String]) -> Result<Vec<f32>, EncoderError> {
        let failed = |error: &dyn std::fmt::Display| EncoderError(error.to_string());
        let ids = |text: &String| Ok(encoder.cut(self.embedder().tokens(text, TooLong::Cut).map_err(|e| failed(&e))?));
        let tokens = texts.iter().map(ids).collect::<Result<Vec<_>, EncoderError>>()?;
        let handle = self.embedder().embed(tokens).map_err(|e| failed(&e))?;
        Ok(handle.blocking_wait().map_err(|e| failed(&e))?.values)
    }
}
