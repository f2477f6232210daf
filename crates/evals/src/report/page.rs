use std::sync::LazyLock;

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::Table;

const STYLE: &str = include_str!("../../templates/report.css");

/// Nothing may be loaded, sent or run; only the page's own style, named by its digest, applies.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!("default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'")
});

/// What a report says, from the first line to the last.
pub(super) struct Page {
    pub(super) kind: &'static str,
    pub(super) title: String,
    pub(super) verdict: String,
    pub(super) tiles: Vec<Tile>,
    pub(super) sections: Vec<Section>,
    pub(super) footer: String,
}

/// One figure at the head of the page.
pub(super) struct Tile {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) note: String,
}

pub(super) struct Section {
    pub(super) title: String,
    pub(super) blocks: Vec<Block>,
}

pub(super) enum Block {
    Text(String),
    /// A picture of [`crate::svg`], which has escaped what it shows.
    Picture {
        svg: String,
        caption: String,
    },
    Table(Table),
    /// A table that opens on a click.
    Folded {
        summary: String,
        table: Table,
    },
    Warnings(Vec<String>),
}

#[derive(Template)]
#[template(path = "report.html")]
struct Document<'a> {
    page: &'a Page,
    style: &'static str,
    policy: &'static str,
}

/// The page as one file.
pub(super) fn html(page: &Page) -> Result<String, askama::Error> {
    Document { page, style: STYLE, policy: &POLICY }.render()
}
