//! The router and the encoder that reads for it.

use std::sync::Arc;

use bantam_router::Router;

use crate::config::{AutoTable, ConfigFileError};
use crate::model::{Running, ServedEncoder};

/// A router at work.
pub(crate) struct Difficulty {
    pub(crate) router: Router,
    pub(crate) encoder: Arc<ServedEncoder>,
}

impl Difficulty {
    /// What `auto.router` names, if it names anything.
    pub(super) fn new(auto: &AutoTable, running: &Running) -> Result<Option<Arc<Self>>, ConfigFileError> {
        let Some(path) = &auto.router else { return Ok(None) };
        let fault = |why: String| ConfigFileError::field("auto.router", format!("{}: {why}", path.display()));
        let bytes = std::fs::read(path).map_err(|e| fault(e.to_string()))?;
        let router = Router::load(&bytes).map_err(|e| fault(e.to_string()))?;
        let Some(encoder) = running.encoders.iter().find(|e| e.id == auto.encoder) else {
            let why = format!("no encoder '{}' runs here; add it to [[models]]", auto.encoder);
            return Err(ConfigFileError::field("auto.encoder", why));
        };
        let trained = router.encoder();
        let same = match (&trained.digest, &encoder.digest) {
            (Some(trained), Some(running)) => trained == running,
            _ => true,
        };
        if !same || trained.dimensions != encoder.embedder.dimensions() {
            return Err(fault(format!(
                "it was trained on vectors of {}, and '{}' is another encoder",
                trained.model, auto.encoder
            )));
        }
        Ok(Some(Arc::new(Self { router, encoder: Arc::clone(encoder) })))
    }
}
