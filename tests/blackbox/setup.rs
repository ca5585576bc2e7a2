//! The wizard: by flags, and in a real terminal. Whatever goes wrong, nothing of it is left.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::service::{calls, everything, with_managers};
use crate::support::{Place, until};

/// A place with a state dir and stand-ins for service managers.
fn place() -> Place {
    let place = with_managers();
    place.write("home/.openclaw/openclaw.json", "{}\n");
    place.write("home/.openclaw/workspace/MEMORY.md", "what the agent knows\n");
    place
}

fn config(place: &Place) -> PathBuf {
    place.path("home/.config/exuvia/config.toml")
}

/// A stand-in for `systemctl` that fails as soon as something is to be started.
fn broken_systemctl(place: &Place) {
    let text = "#!/bin/sh\ncase \"$*\" in *enable*) echo 'no way' >&2; exit 1 ;; esac\n";
    let path = place.write("bin/systemctl", text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

const YES: [&str; 5] = ["--json", "setup", "--yes", "--repo", "repo"];

#[test]
fn flags_and_defaults_answer_scripts() {
    let place = place();
    let run =
        place.run(&[&YES[..], &["--schedule", "15m", "--keep-daily", "7", "--keep-last", "3"]].concat());
    let run = run.exits(0);
    assert_eq!(run.text().lines().count(), 1, "{}", run.text());
    let summary = run.summary();
    assert_eq!(summary["type"], "summary");
    assert_eq!(summary["config"], config(&place).to_str().unwrap());
    assert_eq!((summary["made"].as_bool(), summary["service_running"].as_bool()), (Some(true), Some(true)));
    let text = fs::read_to_string(config(&place)).unwrap();
    for wanted in ["15m", "daily: 7", "last: 3", "passphrase_file"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    for secret in ["config.toml", "passphrase"] {
        let path = config(&place).with_file_name(secret);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{secret}");
    }
    // Nothing more is needed than what was written.
    assert_eq!(place.snapshots(), [summary["snapshot"].as_str().unwrap()]);
    assert!(calls(&place).contains(&"systemctl --user enable --now exuvia.service".to_owned()));
    place.run(&["service", "status"]).exits(0);
    place.run(&["restore", "--to", "restored"]).exits(0);
    let restored = fs::read_to_string(place.path("restored/workspace/MEMORY.md")).unwrap();
    assert_eq!(restored, "what the agent knows\n");
}

#[test]
fn a_configuration_that_is_there_stays_unless_asked() {
    let place = place();
    fs::create_dir_all(config(&place).parent().unwrap()).unwrap();
    fs::write(config(&place), "nonsense = 1\n").unwrap();
    let before = everything(&place);
    let run = place.run(&YES).exits(2);
    assert!(run.error()["hint"].as_str().unwrap().contains("--force"));
    assert_eq!(
        (everything(&place), fs::read_to_string(config(&place)).unwrap()),
        (before, "nonsense = 1\n".into())
    );
    place.run(&[&YES[..], &["--force", "--no-service"]].concat()).exits(0);
    assert_eq!(
        fs::read_to_string(config(&place).with_file_name("config.toml.old")).unwrap(),
        "nonsense = 1\n"
    );
    assert_eq!(place.snapshots().len(), 1);
}

#[test]
fn a_repository_that_is_there_is_opened() {
    let mut place = place();
    place.write("pw", "correct horse\n");
    fs::set_permissions(place.path("pw"), fs::Permissions::from_mode(0o600)).unwrap();
    place.set("EXUVIA_PASSPHRASE_FILE", place.path("pw").to_str().unwrap());
    place.run(&["--repo", "repo", "init", "--kdf-log-n", "15"]).exits(0);
    // A variable that would win is not forgotten silently.
    assert!(place.run(&YES).exits(2).stderr.contains("EXUVIA_PASSPHRASE_FILE"));
    place.set("EXUVIA_PASSPHRASE_FILE", "");
    let before = everything(&place);
    let run = place.run(&YES).exits(2);
    assert!(run.error()["hint"].as_str().unwrap().contains("--passphrase-file"), "{}", run.stderr);
    let run = place.run(&[&YES[..], &["--generate-passphrase-file", "new"]].concat()).exits(2);
    assert!(run.stderr.contains("--passphrase-file"), "{}", run.stderr);
    place.write("home/wrong", "wrong\n");
    place.run(&[&YES[..], &["--passphrase-file", "home/wrong"]].concat()).exits(12);
    fs::remove_file(place.path("home/wrong")).unwrap();
    assert_eq!(everything(&place), before);

    let run = place.run(&[&YES[..], &["--passphrase-file", "pw", "--no-service"]].concat()).exits(0);
    assert_eq!((run.summary()["made"].as_bool(), place.snapshots().len()), (Some(false), 1));
}

/// The place that was named has folders with the names of ours, and somebody's files in them.
#[test]
fn what_was_at_the_place_before_stays() {
    for theirs in ["repo/packs/photo.jpg", "repo/index/index.html", "repo/keys/id_ed25519"] {
        let place = place();
        broken_systemctl(&place);
        place.write(theirs, "not ours\n");
        let before = everything(&place);
        place.run(&[&YES[..], &["--no-first-backup"]].concat()).exits(1);
        assert_eq!(fs::read_to_string(place.path(theirs)).unwrap(), "not ours\n");
        assert_eq!(everything(&place), before, "{theirs}");
    }
}

#[test]
fn what_fails_late_is_undone() {
    let place = place();
    broken_systemctl(&place);
    let before = everything(&place);
    let run = place.run(&[&YES[..], &["--no-first-backup"]].concat()).exits(1);
    assert!(run.stderr.contains("no way") && run.stderr.contains("is undone"), "{}", run.stderr);
    assert_eq!(everything(&place), before);

    // With a snapshot in it the repository is of use, and so is what opens it.
    let run = place.run(&YES).exits(0);
    let notes = run.summary()["notes"].to_string();
    assert!(notes.contains("the service was not installed") && notes.contains("no way"), "{notes}");
    assert_eq!(place.snapshots().len(), 1);
}

#[test]
fn a_place_that_cannot_be_used_is_told_before_anything_is_written() {
    let place = place();
    place.write("file", "");
    let before = everything(&place);
    for (args, word) in [
        (&["setup", "--yes", "--repo", "file/repo"][..], "file"),
        (&["setup", "--yes", "--repo", "home/.openclaw/repo"], "must not lie in each other"),
        (&["setup", "--yes", "--repo", "repo", "--schedule", "often"], "the schedule must be"),
        (&["setup", "--yes", "--remote-provider", "b2"], "--remote-bucket"),
        (&["setup", "--yes", "--repo", "repo", "--generate-passphrase-file", "repo/pw"], "protects nothing"),
        (&["setup", "--yes", "--repo", "repo", "--generate-passphrase-file", "file"], "is there already"),
        (&["setup"], "--yes"),
        (&["--json", "setup"], "--yes"),
    ] {
        let run = place.run(args);
        assert!(matches!(run.code, Some(1 | 2)), "{args:?}: {:?} {}", run.code, run.stderr);
        assert!(run.stderr.contains(word), "{args:?}: {}", run.stderr);
        assert_eq!(everything(&place), before, "{args:?}");
    }
}

#[test]
fn the_settings_of_an_earlier_plugin_are_taken_over() {
    let place = place();
    // rclone's backend `local`: a folder, relative to where it is run.
    place.write(
        "home/.openclaw/openclaw.json",
        "{plugins: {entries: {'openclaw-workspace-sync': {enabled: true, config: {backup: {enabled: true, provider: \
         'custom', custom: {rcloneType: 'local'}, interval: 60, encrypt: true, passphrase: 'correct horse battery', \
         retain: 5}}}}}}",
    );
    let run = place.run(&["--json", "setup", "--yes", "--no-service"]).exits(0);
    assert!(run.stderr.contains("interval") && !run.stderr.contains("horse"), "{}", run.stderr);
    let text = fs::read_to_string(config(&place)).unwrap();
    assert!(text.contains("rclone_type = \"local\"") && !text.contains("horse"), "{text}");
    let passphrase = run.summary()["passphrase_file"].as_str().unwrap().to_owned();
    assert_eq!(fs::read_to_string(passphrase).unwrap(), "correct horse battery\n");
    assert_eq!(place.snapshots().len(), 1);
    // A repository that is named wins.
    let run = place.run(&[&YES[..], &["--force", "--no-service"]].concat()).exits(0);
    assert_eq!(run.summary()["repository"], place.path("repo").to_str().unwrap());
}

/// An earlier plugin's settings, whose place is a folder by rclone's backend `local`.
fn with_plugin(more: &str) -> Place {
    let place = place();
    place.write(
        "home/.openclaw/openclaw.json",
        &format!(
            "{{agents: {{defaults: {{workspace: '/data/elsewhere'}}}}, plugins: {{entries: {{'openclaw-workspace-sync': \
             {{config: {{backup: {{enabled: true, provider: 'custom', custom: {{rcloneType: 'local'}}, retain: {{daily: \
             5, weekly: 2}}, {more}}}}}}}}}}}}}"
        ),
    );
    place
}

#[test]
fn flags_win_over_what_is_imported() {
    let place = with_plugin("passphrase: 'correct horse battery'");
    place.write("pw", "another one altogether\n");
    fs::set_permissions(place.path("pw"), fs::Permissions::from_mode(0o600)).unwrap();
    let setup = ["--json", "setup", "--yes", "--no-service", "--passphrase-file", "pw", "--keep-all"];
    let run = place.run(&setup).exits(0);
    assert_eq!(run.summary()["passphrase_file"], place.path("pw").to_str().unwrap());
    assert!(run.summary()["notes"].to_string().contains("exuvia backup /data/elsewhere"), "{}", run.text());
    let text = fs::read_to_string(config(&place)).unwrap();
    assert!(!text.contains("retention") && text.contains("rclone_type = \"local\""), "{text}");
    // Rules of which some were there already.
    let run = [
        "--json",
        "setup",
        "--yes",
        "--no-service",
        "--passphrase-file",
        "pw",
        "--force",
        "--keep-last",
        "3",
    ];
    place.run(&run).exits(0);
    let text = fs::read_to_string(config(&place)).unwrap();
    assert!(text.contains("{last: 3}") && !text.contains("weekly"), "{text}");
    assert_eq!(place.snapshots().len(), 2);
}

#[test]
fn a_passphrase_that_a_variable_has_stays_there() {
    let mut place = with_plugin("passphrase: '${BACKUP_PASSPHRASE}'");
    let setup = ["--json", "setup", "--yes", "--no-service"];
    let run = place.run(&setup).exits(2);
    assert!(run.stderr.contains("passphrase_command failed"), "{}", run.stderr);
    assert!(!config(&place).exists() && !place.path("exuvia/exuvia.json").exists());
    place.set("BACKUP_PASSPHRASE", "correct horse battery");
    let run = place.run(&setup).exits(0);
    assert!(run.summary()["passphrase_file"].is_null(), "{}", run.text());
    let text = fs::read_to_string(config(&place)).unwrap();
    assert!(text.contains("passphrase_command") && !text.contains("horse"), "{text}");
    assert_eq!(place.snapshots().len(), 1);
}

#[test]
fn a_variable_that_would_win_is_the_answer() {
    let mut place = place();
    place.write("other/file", "x\n");
    place.set("EXUVIA_STATE_DIR", place.path("other").to_str().unwrap());
    let before = everything(&place);
    let run = place.run(&[&["--state-dir", "home/.openclaw"], &YES[..]].concat()).exits(2);
    assert!(run.stderr.contains("EXUVIA_STATE_DIR"), "{}", run.stderr);
    assert_eq!(everything(&place), before);
    let summary = place.run(&YES).exits(0).summary();
    assert_eq!(summary["state_dir"], place.path("other").to_str().unwrap());
    place.set("EXUVIA_STATE_DIR", "");
    let shown = place.run(&["--json", "config", "show"]).exits(0).summary();
    let row = shown.as_array().unwrap().iter().find(|row| row["setting"] == "state_dir").unwrap().clone();
    assert_eq!(row["value"], place.path("other").to_str().unwrap());
}

#[test]
fn a_service_that_runs_gets_the_new_settings() {
    let place = place();
    place.run(&[&YES[..], &["--schedule", "15m"]].concat()).exits(0);
    calls(&place);
    let pw = config(&place).with_file_name("passphrase");
    let args = ["--force", "--schedule", "30m", "--passphrase-file", pw.to_str().unwrap()];
    place.run(&[&YES[..], &args].concat()).exits(0);
    assert_eq!(calls(&place), ["systemctl --user restart exuvia.service"]);
    // What was there before is kept each time.
    place.run(&[&YES[..], &args].concat()).exits(0);
    let read = |name: &str| fs::read_to_string(config(&place).with_file_name(name)).unwrap();
    assert!(read("config.toml.old").contains("15m") && read("config.toml.old-2").contains("30m"));
}

#[test]
fn a_passphrase_is_not_kept_in_what_it_opens_whichever_is_named_first() {
    let place = place();
    let before = everything(&place);
    let run = place.run(&[&YES[..], &["--generate-passphrase-file", "home/.openclaw/pw"]].concat()).exits(2);
    assert!(run.stderr.contains("lost together"), "{}", run.stderr);
    assert_eq!(everything(&place), before);
}

/// A stand-in for `systemctl` that cannot start anything, and sends us signals when it is asked to.
fn impatient_systemctl(place: &Place, signals: &[&str]) {
    let kill: String = signals.iter().map(|signal| format!("kill -{signal} $PPID; ")).collect();
    let text =
        format!("#!/bin/sh\ncase \"$*\" in *\" enable \"*) {kill} echo 'no way' >&2; exit 1 ;; esac\n");
    let path = place.write("bin/systemctl", &text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn who_asks_twice_to_stop_gets_everything_undone() {
    let place = place();
    impatient_systemctl(&place, &["INT", "TERM", "HUP"]);
    let before = everything(&place);
    let run = place.run(&[&YES[..], &["--no-first-backup"]].concat());
    assert!(matches!(run.code, Some(1 | 130)), "{:?} {}", run.code, run.stderr);
    assert!(run.stderr.contains("is undone"), "{}", run.stderr);
    assert_eq!(everything(&place), before);
}

#[test]
fn under_nohup_a_hangup_is_nothing_and_the_end_undoes_everything() {
    let place = place();
    impatient_systemctl(&place, &["HUP", "TERM"]);
    let before = everything(&place);
    let mut shell = Command::new("sh");
    let plain = place.command(&[""; 0]);
    shell.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(place.path(""));
    shell.args(["-c", "trap '' HUP; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_exuvia")]);
    let output = shell.args(YES).arg("--no-first-backup").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(1 | 130)), "{:?} {said}", output.status);
    assert!(said.contains("is undone"), "{said}");
    assert_eq!(everything(&place), before);
}

/// A terminal with the wizard in it.
struct Terminal<'a> {
    place: &'a Place,
    socket: PathBuf,
}

impl<'a> Terminal<'a> {
    /// Starts the wizard; when it has ended, its exit code is on the screen.
    fn start(place: &'a Place, args: &str) -> Self {
        // A server that was told to end may still hold the socket of the terminal before.
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let socket = place.path(&format!("bin/state/tmux-{}", STARTED.fetch_add(1, Ordering::Relaxed)));
        let terminal = Self { place, socket };
        let script =
            format!("'{}' setup {args}\necho \"exit code: $?\"\nexec cat\n", env!("CARGO_BIN_EXE_exuvia"));
        let script = place.write("bin/state/script", &script);
        terminal.tmux(&["new-session", "-d", "-x", "160", "-y", "120", "sh", script.to_str().unwrap()]);
        terminal
    }

    fn tmux(&self, args: &[&str]) -> String {
        let plain = self.place.command(&[""; 0]);
        let mut command = Command::new("tmux");
        command.env_clear().arg("-S").arg(&self.socket).args(["-f", "/dev/null"]).args(args);
        let variables = plain.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let output =
            command.envs(variables).env("TERM", "screen").output().expect("tmux, which .ci/test installs");
        assert!(output.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-J", "-S", "-1000"])
    }

    /// Waits for words after those that were waited for before, and types an answer.
    fn answer(&self, question: &str, answer: &str) {
        self.wait(question);
        self.tmux(&["send-keys", "-l", answer]);
        self.tmux(&["send-keys", "Enter"]);
    }

    /// Waits until a question stands on the screen and its prompt below it.
    fn wait(&self, question: &str) {
        let asked = || {
            let screen = self.screen();
            assert!(!screen.contains("exit code:"), "it ended before {question}: {screen}");
            let at = screen.rfind(question);
            at.is_some_and(|at| {
                screen[at..].trim_end().ends_with('>') && screen[at..].matches("> ").count() < 3
            })
        };
        until(question, asked);
    }

    fn ended(&self) -> String {
        until("the end", || self.screen().contains("exit code:"));
        self.screen()
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}

/// Answers everything up to the summary.
fn answer_all(terminal: &Terminal<'_>, place: &Place) {
    terminal.answer("Which directory should be backed up?", "");
    terminal.answer("Where should snapshots be kept?", "?");
    until("the explanation", || terminal.screen().contains("helps when the disk dies"));
    terminal.answer("helps when the disk dies", "9");
    terminal.answer("or its number", "1");
    terminal.answer("Which folder?", place.path("repo").to_str().unwrap());
    terminal.answer("What should open the repository?", "");
    terminal.answer("Which file?", "");
    terminal.answer("Print a recovery phrase?", "");
    terminal.answer("How often?", "<");
    terminal.answer("Print a recovery phrase?", "y");
    terminal.answer("How often?", "15m");
    terminal.answer("Which snapshots to keep?", "");
    terminal.answer("Take the first snapshot now?", "");
    terminal.answer("Install the service that runs the schedule?", "");
    terminal.wait("Do this?");
}

/// The recovery phrase on the screen.
fn phrase(screen: &str) -> Vec<String> {
    let at = screen.find("Write these words down").unwrap();
    let mut words = screen[at..].split_whitespace();
    (1..=12)
        .map(|number| {
            let label = format!("{number}.");
            words.find(|word| *word == label).unwrap();
            words.next().unwrap().to_owned()
        })
        .collect()
}

/// Which word is asked for, from 1.
fn wanted(screen: &str) -> usize {
    let at = screen.rfind("Word ").unwrap();
    screen[at..].split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn one_path_through_a_terminal_to_its_end() {
    let mut place = place();
    let before = everything(&place);
    let terminal = Terminal::start(&place, "");
    answer_all(&terminal, &place);
    assert_eq!(everything(&place), before, "nothing is written before it is confirmed");
    terminal.answer("Do this?", "");
    terminal.wait("of your paper");
    let words = phrase(&terminal.screen());
    let first = wanted(&terminal.screen());
    terminal.answer("of your paper", "wrong");
    until("another try", || terminal.screen().contains("That is another word."));
    terminal.answer("That is another word.", &words[first - 1]);
    until("the second word", || wanted(&terminal.screen()) != first);
    terminal
        .answer(&format!("Word {} of", wanted(&terminal.screen())), &words[wanted(&terminal.screen()) - 1]);
    let screen = terminal.ended();
    assert!(screen.contains("exit code: 0"), "{screen}");
    for wanted in ["Set up.", "exuvia status", "restore --to", "passphrase: keep a copy elsewhere"] {
        assert!(screen.contains(wanted), "{wanted}: {screen}");
    }
    drop(terminal);

    assert_eq!(place.snapshots().len(), 1);
    place.run(&["service", "status"]).exits(0);
    let text = fs::read_to_string(config(&place)).unwrap();
    assert!(text.contains("15m"), "{text}");
    // What was written down opens it.
    place.set("EXUVIA_PASSPHRASE", &words.join(" "));
    assert_eq!(place.snapshots().len(), 1);
}

#[test]
fn control_c_leaves_nothing_however_late() {
    let place = place();
    let before = everything(&place);
    let terminal = Terminal::start(&place, "");
    answer_all(&terminal, &place);
    terminal.answer("Do this?", "");
    // By now there is a repository, a passphrase, and a configuration.
    terminal.wait("of your paper");
    assert!(config(&place).exists() && place.path("repo/exuvia.json").exists());
    terminal.tmux(&["send-keys", "C-c"]);
    let screen = terminal.ended();
    assert!(screen.contains("exit code: 130"), "{screen}");
    assert!(screen.contains("is undone"), "{screen}");
    drop(terminal);
    assert_eq!(everything(&place), before);
}

#[test]
fn control_c_and_the_end_of_the_input_end_a_question() {
    let place = place();
    let before = everything(&place);
    for key in ["C-c", "C-d"] {
        let terminal = Terminal::start(&place, "--repo repo");
        terminal.answer("Which directory should be backed up?", "");
        terminal.answer("What should open the repository?", "typed");
        terminal.wait("The passphrase (does not show)?");
        terminal.tmux(&["send-keys", "-l", if key == "C-c" { "hunter2" } else { "" }]);
        terminal.tmux(&["send-keys", key]);
        let screen = terminal.ended();
        assert!(screen.contains("exit code: 130") && !screen.contains("hunter2"), "{screen}");
        drop(terminal);
        assert_eq!(everything(&place), before);
    }
}
