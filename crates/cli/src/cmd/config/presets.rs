//! `bantam config presets`.

use bantam_providers::preset::Preset;
use serde_json::json;

use crate::cli::Globals;
use crate::output;

pub(crate) fn run(globals: &Globals) -> anyhow::Result<()> {
    let presets = Preset::all()?;
    if globals.json {
        let all: Vec<_> = presets
            .values()
            .map(|p| json!({"preset": p.name, "base_url": p.base_url, "apis": p.paths.keys().map(ToString::to_string).collect::<Vec<_>>()}))
            .collect();
        return output::print_json(&all);
    }
    let rows = presets.values().map(|preset| {
        let apis: Vec<String> = preset.paths.keys().map(ToString::to_string).collect();
        let base = preset.base_url.clone().unwrap_or_else(|| "(give one)".to_owned());
        vec![preset.name.clone(), base, apis.join(", ")]
    });
    output::print(&output::table(&["preset", "base_url", "APIs"], &[], rows.collect()))
}
