//! Each setting, and who gave it: a flag, the environment, the configuration file, or nobody.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::error::CliError;
use super::global::{self, Context};
use super::text;
use crate::app::prune::GRACE;
use crate::app::{RcloneSettings, Threshold};
use crate::config;

/// Most worker threads.
pub(super) const MAX_THREADS: u16 = 1024;

/// Who gave a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Flag(&'static str),
    Environment(&'static str),
    File { path: PathBuf, line: Option<usize> },
    Default,
}

impl Origin {
    pub(super) fn of_file(ctx: &Context, line: Option<usize>) -> Self {
        ctx.config.file.clone().map_or(Self::Default, |path| Self::File { path, line })
    }

    /// One of four words, for programs.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Flag(_) => "flag",
            Self::Environment(_) => "environment",
            Self::File { .. } => "file",
            Self::Default => "default",
        }
    }

    pub(super) fn words(&self) -> String {
        match self {
            Self::Flag(name) | Self::Environment(name) => (*name).to_owned(),
            Self::File { path, line: Some(line) } => format!("{}:{line}", text::show(path)),
            Self::File { path, line: None } => text::show(path),
            Self::Default => "default".to_owned(),
        }
    }
}

/// A setting and who gave it.
pub(super) type From<T> = (T, Origin);

/// Flag, environment, file: the first that is given.
fn first<T>(
    ctx: &Context,
    key: &str,
    (flag, flag_value): (&'static str, Option<T>),
    (variable, env_value): (&'static str, Option<T>),
    file_value: Option<T>,
) -> Option<From<T>> {
    let flag = flag_value.map(|value| (value, Origin::Flag(flag)));
    let env = || env_value.map(|value| (value, Origin::Environment(variable)));
    let file = || file_value.map(|value| (value, Origin::of_file(ctx, ctx.config.line(key))));
    flag.or_else(env).or_else(file)
}

/// The name of the repository, if anybody gave one.
pub(super) fn repository(ctx: &Context) -> Option<From<OsString>> {
    let flag = ("--repo", ctx.args.repo.clone());
    let env = ("EXUVIA_REPO", ctx.env.get("EXUVIA_REPO"));
    first(ctx, "repository", flag, env, ctx.config.repository.clone())
}

/// The state dir as an absolute path.
pub(super) fn state_dir(ctx: &Context) -> Result<From<PathBuf>, CliError> {
    let flag = ("--state-dir", ctx.args.state_dir.clone());
    let env = ("EXUVIA_STATE_DIR", ctx.env.path("EXUVIA_STATE_DIR"));
    let (path, origin) = first(ctx, "state_dir", flag, env, ctx.config.state_dir.clone())
        .or_else(|| openclaw(ctx))
        .ok_or_else(|| global::no_home("--state-dir"))?;
    Ok((global::absolute(&path)?, origin))
}

/// The state dir of OpenClaw, and which of its variables says so.
fn openclaw(ctx: &Context) -> Option<From<PathBuf>> {
    let said = ["OPENCLAW_STATE_DIR", "OPENCLAW_HOME"].into_iter().find(|name| ctx.env.get(name).is_some());
    Some((ctx.env.openclaw_state()?, said.map_or(Origin::Default, Origin::Environment)))
}

pub(super) fn cache_dir(ctx: &Context) -> Result<From<PathBuf>, CliError> {
    let env = ("EXUVIA_CACHE_DIR", ctx.env.path("EXUVIA_CACHE_DIR"));
    let (path, origin) = first(ctx, "cache_dir", ("", None), env, ctx.config.cache_dir.clone())
        .or_else(|| Some((ctx.env.cache_home()?.join("exuvia"), Origin::Default)))
        .ok_or_else(|| global::no_home("EXUVIA_CACHE_DIR"))?;
    Ok((global::absolute(&path)?, origin))
}

/// Whether the repository's key may be kept in the cache, wrapped in the passphrase.
pub(super) fn key_cache(ctx: &Context) -> Result<From<bool>, CliError> {
    let env = variable(ctx, "EXUVIA_KEY_CACHE", config::switch)?;
    let given = first(ctx, "key_cache", ("", None), env, ctx.config.key_cache);
    Ok(given.unwrap_or((true, Origin::Default)))
}

/// Whether the passphrase is looked for in the keyring of the operating system.
pub(super) fn passphrase_keyring(ctx: &Context) -> Result<From<bool>, CliError> {
    let env = variable(ctx, "EXUVIA_PASSPHRASE_KEYRING", config::switch)?;
    let given = first(ctx, "passphrase_keyring", ("", None), env, ctx.config.passphrase_keyring);
    Ok(given.unwrap_or((false, Origin::Default)))
}

/// How much may be gone before the shrink alarm is raised, in percent; 0 when it never is.
pub(super) fn shrink_alarm(ctx: &Context) -> From<u8> {
    let none = ("", None);
    first(ctx, "shrink_alarm", none, none, ctx.config.shrink_alarm)
        .unwrap_or((Threshold::default().percent(), Origin::Default))
}

/// How long what a prune condemned stays; `flag` is what `--grace` says.
pub(super) fn prune_grace(ctx: &Context, flag: Option<Duration>) -> From<Duration> {
    first(ctx, "prune_grace", ("--grace", flag), ("", None), ctx.config.prune_grace)
        .unwrap_or((GRACE, Origin::Default))
}

pub(super) fn threads(ctx: &Context) -> Result<From<usize>, CliError> {
    let flag = ("--threads", ctx.args.threads.map(usize::from));
    let env = variable(ctx, "EXUVIA_THREADS", thread_count)?;
    let every = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Ok(first(ctx, "threads", flag, env, None).unwrap_or_else(|| (every(), Origin::Default)))
}

/// As `--threads` takes it.
fn thread_count(text: &str) -> Result<usize, &'static str> {
    let count = text.trim().parse().ok().filter(|count| (1..=MAX_THREADS).contains(count));
    count.map(usize::from).ok_or("must be a number from 1 to 1024")
}

/// How rclone is run.
pub(super) struct Running {
    pub(super) program: From<PathBuf>,
    pub(super) bwlimit: From<Option<String>>,
    pub(super) tpslimit: From<Option<f64>>,
    pub(super) connections: From<usize>,
    pub(super) timeout: From<Duration>,
    pub(super) deadline: From<Duration>,
}

impl Running {
    pub(super) fn of(ctx: &Context) -> Result<Self, CliError> {
        let (args, limits) = (&ctx.args, &ctx.config.limits);
        let default = RcloneSettings::default();
        let or = |value| (value, Origin::Default);
        let some = |(value, origin)| (Some(value), origin);
        let program = ("EXUVIA_RCLONE", ctx.env.path("EXUVIA_RCLONE"));
        let program = first(ctx, "rclone_program", ("", None), program, ctx.config.rclone_program.clone());
        let bwlimit = ("--bwlimit", args.bwlimit.clone());
        let variable = variable(ctx, "EXUVIA_BWLIMIT", config::bandwidth)?;
        let bwlimit = first(ctx, "bwlimit", bwlimit, variable, limits.bwlimit.clone());
        let variable = self::variable(ctx, "EXUVIA_TPSLIMIT", config::transactions)?;
        let tpslimit = first(ctx, "tpslimit", ("--tpslimit", args.tpslimit), variable, limits.tpslimit);
        let variable = self::variable(ctx, "EXUVIA_CONNECTIONS", config::connections)?;
        let connections =
            first(ctx, "connections", ("--connections", args.connections), variable, limits.connections);
        let none = ("", None);
        Ok(Self {
            program: program.unwrap_or_else(|| or_program(default.program)),
            bwlimit: bwlimit.map_or((default.bwlimit, Origin::Default), some),
            tpslimit: tpslimit.map_or((default.tpslimit, Origin::Default), |(limit, origin)| {
                (Some(limit).filter(|limit| *limit > 0.0), origin)
            }),
            connections: connections.unwrap_or((default.connections, Origin::Default)),
            timeout: first(ctx, "timeout", none, none, limits.timeout)
                .unwrap_or_else(|| or(default.idle_timeout)),
            deadline: first(ctx, "deadline", none, none, limits.deadline)
                .unwrap_or_else(|| or(default.deadline)),
        })
    }

    pub(super) fn settings(&self) -> RcloneSettings {
        RcloneSettings {
            program: self.program.0.clone(),
            bwlimit: self.bwlimit.0.clone(),
            tpslimit: self.tpslimit.0,
            connections: self.connections.0,
            idle_timeout: self.timeout.0,
            deadline: self.deadline.0,
        }
    }
}

fn or_program(program: PathBuf) -> From<PathBuf> {
    (program, Origin::Default)
}

/// A variable's value, understood.
fn variable<T>(
    ctx: &Context,
    name: &'static str,
    understand: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<(&'static str, Option<T>), CliError> {
    let Some(value) = ctx.env.get(name) else { return Ok((name, None)) };
    let value = understand(&value.to_string_lossy()).map_err(|e| CliError::usage(format!("{name} {e}")))?;
    Ok((name, Some(value)))
}
