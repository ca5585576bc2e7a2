#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use crate::cli::setup::plan::{Keep, Opens};
use crate::config::draft::{Draft, Value};
use crate::config::{Config, Environment, Provider};

fn facts() -> Facts {
    Facts {
        state_dirs: vec![("/home/ann/.openclaw".into(), "1.0 MiB".into())],
        state_dir: "/home/ann/.openclaw".into(),
        folder: "/home/ann/.local/share/exuvia/repository".into(),
        passphrase_file: "/home/ann/.config/exuvia/passphrase".into(),
        home: Some("/home/ann".into()),
        remotes: Some(vec!["nas:".into()]),
        keyring: true,
        plugin: None,
        command: false,
    }
}

/// Goes through the questions: each gets the answer that is written for it, or its default. Tells which were asked.
fn walk(wizard: &mut Wizard, found: Found, answers: &[(Ask, &str)]) -> Vec<Ask> {
    let mut asked = Vec::new();
    for _ in 0..100 {
        match wizard.next() {
            Step::Done => return asked,
            Step::Look => wizard.found(found),
            Step::Authorize(_) => wizard.answer(Ask::Token, "{\"access_token\":\"t\"}").unwrap(),
            Step::Ask(question) => {
                asked.push(question.ask);
                let written = answers.iter().find(|(ask, _)| *ask == question.ask).map(|(_, text)| *text);
                wizard.answer(question.ask, written.unwrap_or_default()).unwrap();
            }
        }
    }
    panic!("no end: {asked:?}");
}

fn plan(found: Found, answers: &[(Ask, &str)]) -> (Plan, Vec<Ask>) {
    let mut wizard = Wizard::new(facts(), &[]).unwrap();
    let asked = walk(&mut wizard, found, answers);
    (wizard.plan().unwrap(), asked)
}

/// The configuration that a plan comes to.
fn config(plan: &Plan) -> Config {
    let draft = plan.draft(Draft::new("test"));
    draft.check(Path::new("/c/config.toml"), &Environment::of(&[("HOME", "/home/ann")])).unwrap().config
}

#[test]
fn defaults_lead_to_the_end() {
    let (plan, asked) = plan(Found::Nothing, &[]);
    assert_eq!(
        asked,
        [
            Ask::StateDir,
            Ask::Place,
            Ask::Folder,
            Ask::Opens,
            Ask::PassphraseFile,
            Ask::Recovery,
            Ask::Schedule,
            Ask::Retention,
            Ask::FirstBackup,
            Ask::Service,
            Ask::Confirm
        ]
    );
    assert_eq!(plan.opens, Opens::Generated("/home/ann/.config/exuvia/passphrase".into()));
    assert!(plan.recovery && plan.first_backup && plan.service && !plan.exists);
    let config = config(&plan);
    assert_eq!(config.state_dir, Some("/home/ann/.openclaw".into()));
    assert_eq!(config.repository, Some("/home/ann/.local/share/exuvia/repository".into()));
    assert_eq!(config.passphrase_file, Some("/home/ann/.config/exuvia/passphrase".into()));
    assert_eq!(config.retention.map(|policy| (policy.last, policy.daily)), Some((24, 7)));
}

#[test]
fn every_place_comes_to_a_configuration_that_is_read() {
    let s3 = [(Ask::Place, "2"), (Ask::Bucket, "b"), (Ask::KeyId, "id"), (Ask::Secret, "hunter2 ${X}")];
    let (s3, _) = plan(Found::Nothing, &s3);
    let remote = config(&s3).remote.unwrap();
    assert_eq!((remote.bucket.as_deref(), remote.prefix.as_str()), (Some("b"), "exuvia"));
    let Provider::S3 { keys: Some((id, secret)), endpoint: None, .. } = remote.provider else { panic!() };
    assert_eq!((id.as_str(), secret.expose()), ("id", "hunter2 ${X}"));
    assert!(!format!("{s3:?}").contains("hunter2"));
    assert!(!s3.summary("rclone:s3:b/exuvia", Path::new("/c")).contains("hunter2"));

    let amazon = [(Ask::Place, "s3"), (Ask::Bucket, "b"), (Ask::Region, "eu-central-1")];
    let Provider::S3 { keys: None, .. } = config(&plan(Found::Nothing, &amazon).0).remote.unwrap().provider
    else {
        panic!()
    };
    let b2 = [(Ask::Place, "b2"), (Ask::Bucket, "b"), (Ask::KeyId, "id"), (Ask::Secret, "k")];
    assert!(matches!(config(&plan(Found::Nothing, &b2).0).remote.unwrap().provider, Provider::B2 { .. }));
    for (place, drive) in [("dropbox", false), ("gdrive", false), ("onedrive", true)] {
        let (plan, asked) = plan(Found::Nothing, &[(Ask::Place, place), (Ask::DriveId, "d1")]);
        assert_eq!(asked.contains(&Ask::DriveId), drive);
        assert!(!asked.contains(&Ask::Token), "the browser gives it");
        let provider = config(&plan).remote.unwrap().provider;
        let login = match &provider {
            Provider::Dropbox(login) | Provider::Drive { login, .. } | Provider::OneDrive { login, .. } => {
                login
            }
            other => panic!("{other:?}"),
        };
        assert!(login.token.expose().contains("access_token"));
    }
    let (rclone, _) = plan(Found::Nothing, &[(Ask::Place, "rc")]);
    let Provider::Rclone { remote, .. } = config(&rclone).remote.unwrap().provider else { panic!() };
    assert_eq!(remote.expose(), "nas:exuvia");
}

#[test]
fn a_repository_that_is_there_is_opened_and_gets_no_recovery_phrase() {
    let (plan, asked) = plan(Found::Repository, &[(Ask::Typed, "correct horse"), (Ask::Keep, "keyring")]);
    assert!(plan.exists && !plan.recovery && !asked.contains(&Ask::Recovery));
    assert_eq!(plan.opens, Opens::Typed(Secret::new("correct horse".into()), Keep::Keyring));
    assert_eq!(config(&plan).passphrase_keyring, Some(true));
    // Whom nobody can ask runs nothing.
    let (plan, asked) = super::tests::plan(Found::Repository, &[(Ask::Typed, "x"), (Ask::Keep, "no")]);
    assert!(!asked.contains(&Ask::Service) && !plan.service);
}

#[test]
fn wrong_answers_are_told_and_change_nothing() {
    let mut wizard = Wizard::new(facts(), &[]).unwrap();
    wizard.answer(Ask::StateDir, "~/.openclaw").unwrap();
    for (ask, text, word) in [
        (Ask::Place, "8", "one of local"),
        (Ask::Place, "0", "one of local"),
        (Ask::Place, "", "unused"),
        (Ask::Folder, "/home/ann/.openclaw/backup", "must not lie in each other"),
        (Ask::Folder, "/home/ann", "must not lie in each other"),
        (Ask::PassphraseFile, "~/.openclaw/pw", "lost together"),
        (Ask::Bucket, "a/b", "name alone"),
        (Ask::Bucket, "", "needs an answer"),
        (Ask::Token, "abc", "from { to }"),
        (Ask::Remote, "nas", "REMOTE:PATH"),
        (Ask::Schedule, "often", ""),
        (Ask::Retention, "{daily: 0}", "keeps nothing"),
        (Ask::Service, "perhaps", "yes or no"),
        (Ask::Typed, "", "needs an answer"),
    ] {
        match wizard.answer(ask, text) {
            Err(words) => assert!(words.contains(word), "{ask:?} {text}: {words}"),
            Ok(()) => assert_eq!(word, "unused", "{ask:?} {text}"),
        }
    }
    assert!(matches!(wizard.next(), Step::Ask(Question { ask: Ask::Folder, .. })));
    wizard.answer(Ask::Folder, "/mnt/r").unwrap();
    assert!(wizard.answer(Ask::KeepFile, "/mnt/r/pw").unwrap_err().contains("protects nothing"));
}

#[test]
fn paths_are_kept_apart_in_whatever_order_they_are_named() {
    let wizard = |answers: &[(Ask, &str)]| {
        let given: Vec<_> =
            answers.iter().map(|(ask, text)| (*ask, Zeroizing::new((*text).to_owned()))).collect();
        Wizard::new(facts(), &given)
    };
    for (answers, word) in [
        (&[(Ask::PassphraseFile, "/srv/agent/pw"), (Ask::StateDir, "/srv/agent")][..], "lost together"),
        (&[(Ask::KeepFile, "/srv/agent/pw"), (Ask::StateDir, "/srv/agent")], "lost together"),
        (&[(Ask::PassphraseFile, "/mnt/r/pw"), (Ask::Folder, "/mnt/r")], "protects nothing"),
        (&[(Ask::Folder, "/srv/agent/r"), (Ask::StateDir, "/srv/agent")], "must not lie in each other"),
        (&[(Ask::Folder, "/srv"), (Ask::StateDir, "/srv/agent")], "must not lie in each other"),
    ] {
        let error = wizard(answers).err().unwrap();
        assert!(error.contains(word), "{answers:?}: {error}");
        let mut other_way: Vec<_> = answers.to_vec();
        other_way.reverse();
        assert!(wizard(&other_way).is_err(), "{other_way:?}");
    }
    // Which file it is, when it is not the one that is asked for.
    let error =
        wizard(&[(Ask::PassphraseFile, "/srv/agent/pw"), (Ask::StateDir, "/srv/agent")]).err().unwrap();
    assert!(error.contains("/srv/agent/pw"), "{error}");
    assert!(wizard(&[(Ask::PassphraseFile, "/srv/pw"), (Ask::StateDir, "/srv/agent")]).is_ok());
}

/// What an earlier plugin's settings come to, with its place and rules.
fn after_import(answers: &[(Ask, &str)]) -> (Plan, Config) {
    let given: Vec<_> =
        answers.iter().map(|(ask, text)| (*ask, Zeroizing::new((*text).to_owned()))).collect();
    let facts = Facts { plugin: Some("workspace-sync".into()), command: true, ..facts() };
    let mut wizard = Wizard::new(facts, &given).unwrap();
    walk(&mut wizard, Found::Nothing, &[]);
    let plan = wizard.plan().unwrap();
    let mut draft = Draft::new("test");
    draft.set("repository", Value::text("/mnt/r"));
    draft.set("retention.daily", Value::Number(7));
    draft.set("passphrase_command", Value::text("print it"));
    let draft = plan.draft(draft);
    let env = Environment::of(&[("HOME", "/home/ann")]);
    let config = draft.check(Path::new("/c/config.toml"), &env).unwrap().config;
    (plan, config)
}

#[test]
fn what_was_imported_holds_unless_the_command_line_says_otherwise() {
    let (plan, config) = after_import(&[]);
    assert_eq!(
        (plan.opens.clone(), config.passphrase_command.as_deref()),
        (Opens::Imported, Some("print it"))
    );
    assert_eq!(config.retention.map(|policy| policy.daily), Some(7));
    assert!(plan.summary("x", Path::new("/c")).contains("as imported, printed by passphrase_command"));
    let (plan, config) = after_import(&[(Ask::Retention, "all")]);
    assert_eq!(config.retention, None);
    assert!(plan.summary("x", Path::new("/c")).contains("keep           everything"));
    let (_, config) = after_import(&[(Ask::Retention, "{last: 3}")]);
    assert_eq!(config.retention.map(|policy| (policy.last, policy.daily)), Some((3, 0)));
    let (_, config) = after_import(&[(Ask::Opens, "file"), (Ask::PassphraseFile, "/etc/pw")]);
    assert_eq!((config.passphrase_file, config.passphrase_command), (Some("/etc/pw".into()), None));
}

#[test]
fn going_back_offers_what_was_said() {
    let mut wizard = Wizard::new(facts(), &[]).unwrap();
    assert!(!wizard.back());
    wizard.answer(Ask::StateDir, "/srv/agent").unwrap();
    wizard.answer(Ask::Place, "local").unwrap();
    wizard.answer(Ask::Folder, "/mnt/r").unwrap();
    wizard.found(Found::Repository);
    assert!(wizard.back());
    let Step::Ask(question) = wizard.next() else { panic!() };
    assert_eq!((question.ask, question.default.as_deref()), (Ask::Folder, Some("/mnt/r")));
    wizard.answer(Ask::Folder, "").unwrap();
    assert_eq!(wizard.next(), Step::Look, "what is there now is not known");
    wizard.again();
    assert!(matches!(wizard.next(), Step::Ask(Question { ask: Ask::Place, .. })));
    assert_eq!(wizard.state_dir(), Some(Path::new("/srv/agent")));
}

/// What an earlier plugin encrypted with, once its settings are to be used.
fn with_its_passphrase() -> Wizard {
    let facts = Facts { plugin: Some("b2-backup".into()), ..facts() };
    let mut wizard = Wizard::new(facts, &[]).unwrap();
    wizard.answer(Ask::Import, "yes").unwrap();
    wizard.adopt(Ask::Opens, "typed").unwrap();
    wizard.adopt(Ask::Typed, "hunter2 of theirs").unwrap();
    wizard
}

#[test]
fn a_passphrase_goes_with_the_import_that_it_came_by() {
    // The place that was imported cannot be reached, and somebody takes another instead.
    let mut wizard = with_its_passphrase();
    wizard.answer(Ask::StateDir, "/srv/agent").unwrap();
    assert_eq!(wizard.next(), Step::Look);
    wizard.again();
    let asked = walk(&mut wizard, Found::Nothing, &[(Ask::Import, "no"), (Ask::Opens, "generate")]);
    assert!(asked.contains(&Ask::Import) && asked.contains(&Ask::Opens), "{asked:?}");
    assert!(matches!(wizard.plan().unwrap().opens, Opens::Generated(_)));

    // Going back leads to what was asked, and takes along what was not.
    let mut wizard = with_its_passphrase();
    assert!(wizard.back());
    assert!(matches!(wizard.next(), Step::Ask(Question { ask: Ask::Import, .. })));
    assert!(!wizard.knows(Ask::Opens) && !wizard.knows(Ask::Typed));

    // Who types another after it did not open owns that one.
    let mut wizard = with_its_passphrase();
    wizard.does_not_open();
    wizard.answer(Ask::Opens, "typed").unwrap();
    wizard.answer(Ask::Typed, "my own").unwrap();
    wizard.again();
    assert!(wizard.knows(Ask::Opens) && wizard.knows(Ask::Typed));
}

#[test]
fn what_the_command_line_says_is_not_asked() {
    let text = |text: &str| Zeroizing::new(text.to_owned());
    let given = [(Ask::StateDir, text("/srv/agent")), (Ask::Service, text("no"))];
    let mut wizard = Wizard::new(facts(), &given).unwrap();
    assert!(!wizard.back());
    let asked = walk(&mut wizard, Found::Nothing, &[]);
    assert!(!asked.contains(&Ask::StateDir) && !asked.contains(&Ask::Service));
    let plan = wizard.plan().unwrap();
    assert!(!plan.service && plan.state_dir == Path::new("/srv/agent"));
    assert!(Wizard::new(facts(), &[(Ask::Schedule, text("often"))]).is_err());
}

#[test]
fn secrets_are_not_offered_again() {
    let mut wizard = Wizard::new(facts(), &[]).unwrap();
    for (ask, text) in [
        (Ask::StateDir, ""),
        (Ask::Place, "b2"),
        (Ask::Bucket, "b"),
        (Ask::KeyId, "id"),
        (Ask::Secret, "hunter2"),
    ] {
        wizard.answer(ask, text).unwrap();
    }
    wizard.again();
    assert_eq!(wizard.question(Ask::KeyId).default.as_deref(), Some("id"));
    assert_eq!(wizard.question(Ask::Secret).default, None);
}

#[test]
fn every_question_explains_itself_and_has_a_flag() {
    let wizard = Wizard::new(facts(), &[]).unwrap();
    for ask in [
        Ask::Import,
        Ask::StateDir,
        Ask::Place,
        Ask::Folder,
        Ask::Endpoint,
        Ask::Region,
        Ask::Bucket,
        Ask::KeyId,
        Ask::Secret,
        Ask::Login,
        Ask::Token,
        Ask::DriveId,
        Ask::DriveType,
        Ask::Remote,
        Ask::Prefix,
        Ask::Opens,
        Ask::PassphraseFile,
        Ask::Typed,
        Ask::Keep,
        Ask::KeepFile,
        Ask::Recovery,
        Ask::Schedule,
        Ask::Retention,
        Ask::FirstBackup,
        Ask::Service,
        Ask::Confirm,
    ] {
        let question = wizard.question(ask);
        assert_eq!(question.ask, ask);
        assert!(question.help.len() > 20 && question.flag.contains("--"), "{ask:?}");
    }
}
