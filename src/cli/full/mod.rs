//! `exuvia full`.

mod create;
mod export;
mod import;
mod list;
mod prune;
mod restore;
mod verify;

use std::ffi::OsString;

use super::error::{CliError, Status};
use super::global::{Context, Opened};
use super::interrupt::OnSignal;
use super::repository::{self, Place};
use super::settings::Origin;
use super::{passphrase, text};
use crate::app::{FullFrom, Location, Passphrase};
use crate::model::ArchiveForm;

/// Full archives: everything in one stream, for standard programs or for a plain file
///
/// An archive is one compressed and encrypted tar stream that needs nothing else of the repository. It is stored while
/// it is made, under full/ in the repository, and takes no room on this machine's disk. What makes it whole is its
/// mark, which is stored last; without one it is partial and never used by itself.
///
/// The sealed form is authenticated and opened by exuvia. The openssl form is read by `openssl` and `tar`, too, and is
/// that of an earlier plugin; --from reads the archives which that one made.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia full create\n  exuvia full list\n  exuvia full restore --to /tmp/look\n  exuvia full import --all --from rclone:b2:backups/agent"
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    Create(create::Args),
    List(list::Args),
    Restore(restore::Args),
    Verify(verify::Args),
    Prune(prune::Args),
    Import(import::Args),
    Export(export::Args),
}

pub(super) fn run(args: Args, ctx: &Context) -> Result<Status, CliError> {
    match args.what {
        What::Create(args) => create::run(args, ctx),
        What::List(args) => list::run(&args, ctx),
        What::Restore(args) => restore::run(args, ctx),
        What::Verify(args) => verify::run(args, ctx),
        What::Prune(args) => prune::run(&args, ctx),
        What::Import(args) => import::run(args, ctx),
        What::Export(args) => export::run(args, ctx),
    }
}

/// Where archives are read from, if not from the repository.
#[derive(clap::Args, Debug)]
struct From {
    /// A folder with archives of another program, as a local path or rclone:REMOTE:PATH; they have no marks, so that
    /// nothing vouches for them
    #[arg(long, value_name = "LOCATION")]
    from: Option<OsString>,
}

impl From {
    fn location(&self, ctx: &Context) -> Result<Option<Location>, CliError> {
        let locate = |named: &OsString| repository::locate(ctx, named, &Origin::Flag("--from"));
        self.from.as_ref().map(locate).transpose()
    }
}

/// What reads archives: the repository, or a place that needs none.
struct Reading {
    opened: Opened,
    elsewhere: Option<Location>,
    /// Of the repository.
    passphrase: Option<Passphrase>,
}

impl Reading {
    fn open(ctx: &Context, from: &From) -> Result<Self, CliError> {
        if let Some(location) = from.location(ctx)? {
            let opened = ctx.open_elsewhere(location.clone(), OnSignal::Ask)?;
            return Ok(Self { opened, elsewhere: Some(location), passphrase: None });
        }
        let place = Place::of(ctx)?;
        let obtained = place.passphrase(ctx)?;
        let passphrase = Some(obtained.passphrase.clone());
        Ok(Self { opened: ctx.open_with(&place, obtained, OnSignal::Ask)?, elsewhere: None, passphrase })
    }

    fn from(&self) -> FullFrom<'_> {
        self.elsewhere.as_ref().map_or(FullFrom::Repository, FullFrom::Elsewhere)
    }

    /// The passphrase of the openssl form: its own, or the repository's.
    fn openssl(&self, ctx: &Context) -> Result<Option<Passphrase>, CliError> {
        openssl(ctx, self.passphrase.as_ref())
    }
}

/// The passphrase of the openssl form: its own, or another one that is at hand.
fn openssl(ctx: &Context, or: Option<&Passphrase>) -> Result<Option<Passphrase>, CliError> {
    if let Some(own) = passphrase::of_full_archives(ctx)? {
        return Ok(Some(own.passphrase));
    }
    if let Some(passphrase) = or {
        return Ok(Some(passphrase.clone()));
    }
    // Who reads archives of another program may have set it as that of the repository.
    Ok(passphrase::configured(ctx, None)?.map(|obtained| obtained.passphrase))
}

/// The forms that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormArg {
    /// Authenticated; opened by exuvia with the repository's keys
    Sealed,
    /// .tar.gz.enc: opened by `openssl enc -d` and `tar`
    Openssl,
}

/// How the bytes of an archive are made.
#[derive(clap::Args, Debug)]
struct Form {
    /// How the archive is encrypted [default: sealed]
    #[arg(long, value_enum)]
    form: Option<FormArg>,

    /// A plain .tar.gz that whoever gets at it can read
    #[arg(long, conflicts_with = "form")]
    no_encrypt: bool,
}

impl Form {
    fn form(&self, ctx: &Context) -> ArchiveForm {
        match (self.no_encrypt, self.form) {
            (true, _) => ArchiveForm::Gzip,
            (_, Some(FormArg::Sealed)) => ArchiveForm::Sealed,
            (_, Some(FormArg::Openssl)) => ArchiveForm::Openssl,
            (_, None) => ctx.config.full.form,
        }
    }

    /// Says once what the form that was chosen does not do.
    fn warn(form: ArchiveForm, ctx: &Context) {
        match form {
            ArchiveForm::Openssl => ctx.output.warn(
                "the openssl form hides what is in it, and does not show when somebody has changed it; that only its mark in the repository does",
            ),
            ArchiveForm::Gzip => {
                ctx.output.warn("this archive is not encrypted: whoever gets at it can read everything in it");
            }
            ArchiveForm::Sealed => {}
        }
    }
}

/// Bytes of a path that a mark or a member has.
fn shown(bytes: &[u8]) -> String {
    text::printable(bytes)
}
