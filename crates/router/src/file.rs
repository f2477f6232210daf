//! A router as bytes.

use bantam_stats::container::{self, Kind, Opened};
use bantam_stats::head::pair::PairHead;
use sha2::{Digest, Sha256};

use crate::cascade::Cascade;
use crate::embed::EncoderId;
use crate::error::RouteError;
use crate::model::{Router, Scaling, Threshold};
use crate::prompt::{FEATURES, FEATURES_VERSION};

const KIND: Kind = Kind { magic: b"BANTROUT", version: 1 };
/// The largest file that is read.
pub const MAX_FILE_BYTES: u64 = 256 << 20;

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    features: u32,
    encoder: EncoderId,
    scaling: Scaling,
    threshold: Threshold,
    cascade: Option<Cascade>,
    excerpts: Vec<String>,
}

impl Router {
    /// The router as bytes, for [`Router::load`]: a container with a JSON header and the head.
    ///
    /// # Errors
    /// None that are known; the JSON writer's type has one.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RouteError> {
        let header = Header {
            features: FEATURES_VERSION,
            encoder: self.encoder.clone(),
            scaling: self.scaling.clone(),
            threshold: self.threshold,
            cascade: self.cascade.clone(),
            excerpts: self.excerpts.clone(),
        };
        let header = serde_json::to_vec(&header).map_err(|error| RouteError::File(error.to_string()))?;
        Ok(container::seal(KIND, &header, &self.head.to_bytes()?))
    }

    /// Reads what [`Router::to_bytes`] wrote. Memory is in proportion to `bytes`.
    ///
    /// # Errors
    /// [`RouteError::File`]: nothing is taken on trust, not even with a checksum that matches.
    pub fn load(bytes: &[u8]) -> Result<Self, RouteError> {
        let file = |problem: String| RouteError::File(problem);
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(file(format!("it has more than {MAX_FILE_BYTES} bytes")));
        }
        let Opened { header, body } = container::open(KIND, bytes).map_err(|error| file(error.to_string()))?;
        let header: Header = serde_json::from_slice(header).map_err(|error| file(format!("its header: {error}")))?;
        let Header { features, encoder, scaling, threshold, cascade, excerpts } = header;
        if features != FEATURES_VERSION {
            return Err(file(format!(
                "its features are of version {features}, this program's {FEATURES_VERSION}; train again"
            )));
        }
        let head = PairHead::from_bytes(body)?;
        if encoder.dimensions.checked_add(FEATURES) != Some(head.width()) || encoder.tokens < 3 {
            return Err(file("the encoder's dimensions or tokens do not fit its head".into()));
        }
        if !scaling.is_valid() || !threshold.is_valid() || !cascade.as_ref().is_none_or(Cascade::is_valid) {
            return Err(file("its scaling, threshold or cascade has numbers that make no sense".into()));
        }
        if !excerpts.is_empty() && excerpts.len() != head.kept().len() {
            return Err(file("it has not one excerpt per row".into()));
        }
        Ok(Self { encoder, scaling, head, threshold, cascade, excerpts })
    }

    /// What names this router in a ledger: the first 16 hexadecimal digits of the SHA-256 of its bytes.
    ///
    /// # Errors
    /// As [`Router::to_bytes`].
    pub fn fingerprint(&self) -> Result<String, RouteError> {
        let digest = Sha256::digest(self.to_bytes()?);
        Ok(digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
}
