//! `exuvia init`.

use serde::Serialize;

use super::error::{CliError, Status};
use super::global::Context;
use super::interrupt::OnSignal;
use super::repository::{self, Place};
use super::text;
use crate::app::{self, InitRequest, ScryptParams};
use crate::model::ErrorClass;

/// Make a repository
///
/// Refuses a place that holds a repository already. The passphrase is asked for twice on a terminal, or
/// taken from where it is configured (see `exuvia --help`).
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia --repo /mnt/backup/agent init\n  EXUVIA_PASSPHRASE_FILE=~/pw exuvia --repo ./r init --label laptop\n  exuvia --repo rclone:b2:my-bucket/agent init"
)]
pub(super) struct Args {
    /// Name of the first key
    #[arg(long, value_name = "TEXT", default_value = "first")]
    label: String,

    #[command(flatten)]
    kdf: Kdf,
}

/// Cost of guessing a passphrase.
#[derive(clap::Args, Debug)]
pub(super) struct Kdf {
    /// Cost of the key derivation, scrypt's N = 2^N: opening takes 2^N KiB of memory [default: 17]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(15..=20))]
    kdf_log_n: Option<u8>,
}

impl Kdf {
    pub(super) fn params(&self, default: ScryptParams) -> ScryptParams {
        self.kdf_log_n.map_or(default, |log_n| ScryptParams { log_n, ..ScryptParams::PASSPHRASE })
    }
}

#[derive(Serialize)]
struct Summary {
    r#type: &'static str,
    repository: String,
    #[serde(flatten)]
    path: text::JsonPath,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<String>,
}

pub(super) fn run(args: &Args, ctx: &Context) -> Result<Status, CliError> {
    let place = Place::of(ctx)?;
    let obtained = place.first_passphrase(ctx)?;
    let params = args.kdf.params(repository::default_params(&obtained));
    let words = place.made(&obtained);
    let key_file = place.default.as_ref().filter(|_| obtained.default_key).map(|d| text::show(&d.key_file));
    let opened = ctx.open_with(&place, obtained, OnSignal::End)?;
    let request = InitRequest { label: args.label.clone(), params };
    let id = opened.run(|session| app::init(session, &request)).map_err(|e| match e.class {
        ErrorClass::Failed => e.hint("choose another place; what is there was left as it is"),
        _ => e,
    })?;
    if ctx.output.json {
        let path = place.json_name();
        ctx.output.document(&Summary { r#type: "summary", repository: id.to_string(), path, key_file })?;
    } else {
        ctx.output.summary(&format!("{words}\nid: {id}"))?;
    }
    Ok(Status::Done)
}
