//! The unit file of systemd.
//!
//! A system unit is closed by mount namespaces: everything is read-only but what the program writes. A user's
//! unit is not: there, each such setting puts the service into a user namespace in which files of other owners
//! and groups belong to nobody, and snapshots would record just that. `PrivateTmp` is in neither: OpenClaw's
//! gateway says in `/tmp/openclaw-<uid>` that it runs, and must be seen. What a user's unit has needs no
//! namespace.
//!
//! Commands of the user's own run as children (hooks, a passphrase command): hence `EPERM` rather than a
//! signal for a refused call, and no `MemoryDenyWriteExecute`, which breaks interpreters.

use std::path::{Path, PathBuf};

use super::{Error, FOLDERS, MARK, Scope, Service, line, roots};

/// The unit's name.
pub(super) const UNIT: &str = "exuvia.service";

/// What every unit has. The filter lets services do what they usually do; sockets of other families are for
/// nothing that a backup needs (netlink: looking up addresses).
const HARDENED: &str = "\
NoNewPrivileges=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
LockPersonality=yes
RestrictRealtime=yes
UMask=0077
";

/// What a system unit has besides.
const SYSTEM: &str = "\
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictNamespaces=yes
";

/// What root keeps, who reads and restores files of others; another user needs nothing of it.
const CAPABILITIES: &str = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID";

/// The unit file. `folders`: how many folders were made for it; `old`: the text that it has now, if any.
pub(super) fn unit(
    service: &Service,
    scope: &Scope,
    folders: usize,
    old: &str,
    exists: impl Fn(&Path) -> bool,
) -> Result<String, Error> {
    let program = quoted(line("the program's path", service.program.as_os_str())?);
    let mut text = format!(
        "# {MARK}; `exuvia service uninstall` removes it.\n\
         # Changes belong into a drop-in (`systemctl edit`), or are lost.\n\
         # {FOLDERS} {folders}\n\n\
         [Unit]\n\
         Description=Exuvia: scheduled snapshots\n"
    );
    if matches!(scope, Scope::System { .. }) {
        text += "Wants=network-online.target\nAfter=network-online.target\n";
    }
    text +=
        &format!("\n[Service]\nType=exec\nExecStart={program} daemon\nExecReload=/bin/kill -HUP $MAINPID\n");
    if let Scope::System { user } = scope {
        text += &format!("User={}\n", user_name(user)?);
    }
    for (name, value) in &service.environment {
        let value = line(name, value)?;
        text += &format!("Environment={}\n", quoted(&format!("{name}={value}")));
    }
    // Wrong settings do not mend themselves (exit code 2); whatever else ended it, may.
    text += "Restart=on-failure\nRestartSec=30\nRestartPreventExitStatus=2\n\
             KillMode=mixed\nTimeoutStopSec=10\nMemoryHigh=1G\n";
    if service.low_priority {
        text += "Nice=10\nIOSchedulingClass=idle\n";
    }
    text += HARDENED;
    match scope {
        Scope::User => text += "\n[Install]\nWantedBy=default.target\n",
        Scope::System { user } => {
            text += SYSTEM;
            let kept = if user == "root" { CAPABILITIES } else { "" };
            text += &format!("CapabilityBoundingSet={kept}\n");
            text += &writable(service, old, exists)?;
            text += "\n[Install]\nWantedBy=multi-user.target\n";
        }
    }
    Ok(text)
}

/// What may be written. Where that is the root directory, only the system's own files can be kept from it.
///
/// What is not there yet stands there as the nearest folder that is, in which it will be made. An older text that lets
/// the same be written stays right when such a folder appears: the text must not change by itself. What it lets be
/// written must be there, though: systemd passes over a folder that is not, and nobody could make it.
fn writable(service: &Service, old: &str, exists: impl Fn(&Path) -> bool) -> Result<String, Error> {
    let mut writes = service.writes.clone();
    // Of SQLite, of rclone, and of the user's own commands.
    writes.extend(["/tmp".into(), "/var/tmp".into()]);
    let stood = |path: &Path| match grant(path) {
        Ok(grant) => old.lines().any(|line| format!("{line}\n") == grant),
        Err(_) => false,
    };
    let holds = |path: &PathBuf| path.ancestors().find(|path| stood(path)).is_some_and(&exists);
    let roots = match writes.iter().all(holds) {
        true => roots(&writes, stood),
        false => roots(&writes, exists),
    };
    if roots.iter().any(|root| root == Path::new("/")) {
        return grant(Path::new("/"));
    }
    let mut text = "ProtectSystem=strict\n".to_owned();
    for root in &roots {
        text += &grant(root)?;
    }
    Ok(text)
}

/// The line that lets everything below a directory be written.
fn grant(root: &Path) -> Result<String, Error> {
    if root == Path::new("/") {
        return Ok("ProtectSystem=full\n".to_owned());
    }
    let root = line("a directory that is written to", root.as_os_str())?;
    // A disk that is not there at the moment must not keep the service from starting.
    Ok(format!("ReadWritePaths={}\n", quoted(&format!("-{root}"))))
}

/// A word as systemd reads it: `%` begins a specifier everywhere, `\` an escape in quotes.
fn quoted(word: &str) -> String {
    let mut text = String::with_capacity(word.len() + 2);
    text.push('"');
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '%' => text.push_str("%%"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// The name of a user stands in the file as it is.
fn user_name(name: &str) -> Result<&str, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) {
        return Err(Error::Text { what: "the user's name".to_owned(), text: name.escape_debug().collect() });
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn service(program: &str, writes: &[&str]) -> Service {
        Service {
            program: program.into(),
            environment: vec![("EXUVIA_CONFIG", "/home/ann/.config/exuvia/config.toml".into())],
            writes: writes.iter().map(PathBuf::from).collect(),
            low_priority: true,
        }
    }

    fn system(user: &str) -> Scope {
        Scope::System { user: user.to_owned() }
    }

    #[test]
    fn words_are_quoted_as_systemd_wants_it() {
        for (word, want) in [
            ("/usr/bin/exuvia", r#""/usr/bin/exuvia""#),
            ("/a b/c", r#""/a b/c""#),
            ("/100%/x", r#""/100%%/x""#),
            (r#"/a"b\c"#, r#""/a\"b\\c""#),
            ("/it's", r#""/it's""#),
        ] {
            assert_eq!(quoted(word), want, "{word}");
        }
    }

    #[test]
    fn a_users_unit_needs_no_namespace() {
        let text = unit(&service("/b/exuvia", &["/home/ann"]), &Scope::User, 2, "", |_| true).unwrap();
        for wanted in [
            "ExecStart=\"/b/exuvia\" daemon\n",
            "Environment=\"EXUVIA_CONFIG=/home/ann/.config/exuvia/config.toml\"\n",
            "WantedBy=default.target\n",
            "NoNewPrivileges=yes\n",
            "KillMode=mixed\n",
            "IOSchedulingClass=idle\n",
            "# exuvia-folders: 2\n",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        for unwanted in ["Protect", "Private", "ReadWritePaths", "User=", "network-online"] {
            assert!(!text.contains(unwanted), "{unwanted}: {text}");
        }
    }

    #[test]
    fn a_system_unit_writes_only_where_it_must() {
        let all = service("/b/exuvia", &["/home/ann", "/home/ann/.cache/exuvia", "/mnt/r"]);
        let text = unit(&all, &system("ann"), 0, "", |_| true).unwrap();
        for wanted in [
            "User=ann\n",
            "ProtectSystem=strict\nReadWritePaths=\"-/home/ann\"\nReadWritePaths=\"-/mnt/r\"\n",
            "ReadWritePaths=\"-/tmp\"\n",
            "CapabilityBoundingSet=\n",
            "WantedBy=multi-user.target\n",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        let root = unit(&service("/b/exuvia", &["/"]), &system("root"), 0, "", |_| true).unwrap();
        assert!(root.contains("ProtectSystem=full\n") && !root.contains("ReadWritePaths"), "{root}");
        assert!(root.contains("CAP_DAC_READ_SEARCH"), "{root}");
    }

    #[test]
    fn a_unit_stays_as_it_is_when_folders_appear() {
        let all = service("/b/exuvia", &["/srv/agent/.cache/exuvia", "/srv/agent/50% \"x\"", "/mnt/r"]);
        let write = |old: &str, there: &[&str]| {
            let there: Vec<&Path> = there.iter().map(Path::new).collect();
            unit(&all, &system("ann"), 0, old, |path| there.contains(&path)).unwrap()
        };
        let bare = ["/", "/tmp", "/var/tmp", "/srv/agent", "/mnt"];
        let first = write("", &bare);
        assert!(first.contains("ReadWritePaths=\"-/srv/agent\"\n"), "{first}");
        let full = [&bare[..], &["/srv/agent/.cache", "/srv/agent/50% \"x\"", "/mnt/r"]].concat();
        assert_eq!(write(&first, &full), first);
        // Without one there is nothing to keep to.
        let narrow = write("", &full);
        assert!(
            narrow != first && narrow.contains("ReadWritePaths=\"-/srv/agent/50%% \\\"x\\\"\"\n"),
            "{narrow}"
        );
        // What is gone would be passed over by systemd, and could not be made again.
        assert_eq!(write(&narrow, &bare), first);
        assert!(write(&first, &["/"]).contains("ProtectSystem=full\n"));
        // What is not let by the old text is looked for.
        let mut more = all.clone();
        more.writes.push("/opt/y".into());
        let text = unit(&more, &system("ann"), 0, &first, |path| path != Path::new("/opt/y")).unwrap();
        assert!(text.contains("ReadWritePaths=\"-/opt\"\n"), "{text}");
        let all_of_it = write("", &["/"]);
        assert!(all_of_it.contains("ProtectSystem=full\n"), "{all_of_it}");
        assert_eq!(write(&all_of_it, &full), all_of_it);
    }

    #[test]
    fn nothing_can_add_a_line() {
        let mut bad = service("/b/exuvia", &[]);
        bad.environment = vec![("EXUVIA_REPO", "/r\nExecStartPre=/bin/sh".into())];
        assert!(unit(&bad, &Scope::User, 0, "", |_| true).is_err());
        for user in ["", "-x", "a b", "a\nb", "é", "a%h"] {
            assert!(unit(&service("/b", &[]), &system(user), 0, "", |_| true).is_err(), "{user}");
        }
    }
}
