//! The monitor of the command line: a bar while something long runs, lines above it.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::output::{Level, Output};
use crate::model::RepoPath;
use crate::report::{Monitor, Phase};

const REDRAW: Duration = Duration::from_millis(200);

pub(super) struct Screen {
    output: Output,
    bar: Option<ProgressBar>,
    files: Arc<AtomicU64>,
    warnings: AtomicU64,
    cancelled: Arc<AtomicBool>,
}

impl Screen {
    pub(super) fn new(output: Output, cancelled: Arc<AtomicBool>) -> Self {
        // Drawn from the first phase on: short commands never show it.
        let bar = output.bar.then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()));
        Self { output, bar, files: Arc::default(), warnings: AtomicU64::new(0), cancelled }
    }

    /// Takes the bar away, before results are written.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    pub(super) fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Relaxed)
    }

    fn line(&self, level: Level, path: Option<&RepoPath>, message: &str) {
        let write = || self.output.line(level, path, message);
        match &self.bar {
            Some(bar) if self.output.shows(level) => bar.suspend(write),
            _ => write(),
        }
    }

    fn style(&self, known: bool) -> ProgressStyle {
        let template = if known {
            "{msg} [{wide_bar}] {binary_bytes}/{binary_total_bytes}, {binary_bytes_per_sec}, {files}, {eta} left"
        } else {
            "{spinner} {msg} {binary_bytes}, {binary_bytes_per_sec}, {files}, {elapsed}"
        };
        let files = Arc::clone(&self.files);
        ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("files", move |_: &ProgressState, out: &mut dyn Write| {
                // A line that cannot be drawn is drawn again soon.
                let _ = out.write_str(&super::units::count(files.load(Ordering::Relaxed), "file"));
            })
            .progress_chars("=> ")
    }
}

impl Monitor for Screen {
    fn phase(&self, phase: Phase, bytes: Option<u64>) {
        let Some(bar) = &self.bar else { return };
        self.files.store(0, Ordering::Relaxed);
        bar.reset();
        match bytes {
            Some(bytes) => bar.set_length(bytes),
            None => bar.unset_length(),
        }
        bar.set_style(self.style(bytes.is_some()));
        bar.set_message(match phase {
            Phase::Backup => "backing up",
            Phase::Publish => "publishing",
            Phase::Plan => "comparing",
            Phase::Restore => "restoring",
            Phase::Verify => "verifying",
            Phase::Check => "checking",
            Phase::ReadData => "reading data",
            Phase::Look => "looking",
            Phase::Delete => "removing",
            Phase::Repack => "copying",
        });
        if bar.is_hidden() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(REDRAW);
        }
    }

    fn progress(&self, files: u64, bytes: u64) {
        if let Some(bar) = &self.bar {
            self.files.fetch_add(files, Ordering::Relaxed);
            bar.inc(bytes);
        }
    }

    fn note(&self, path: Option<&RepoPath>, message: &str) {
        self.line(Level::Note, path, message);
    }

    fn warning(&self, path: Option<&RepoPath>, message: &str) {
        self.warnings.fetch_add(1, Ordering::Relaxed);
        self.line(Level::Warning, path, message);
    }

    fn error(&self, path: &RepoPath, message: &str) {
        self.line(Level::Error, Some(path), message);
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
