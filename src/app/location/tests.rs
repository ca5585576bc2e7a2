#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

fn named(name: &str) -> Result<Target, LocationError> {
    match Location::named(name, &Settings::default()) {
        Some(Ok(Location::Rclone(target))) => Ok(target),
        Some(Err(e)) => Err(e),
        other => panic!("{name}: {other:?}"),
    }
}

fn configured(provider: Provider, bucket: Option<&str>, prefix: &str, options: &[(&str, &str)]) -> Target {
    let secret = |text: &str| crate::model::Secret::new(text.to_owned());
    let remote = RemoteConfig {
        line: 1,
        provider,
        bucket: bucket.map(str::to_owned),
        prefix: prefix.to_owned(),
        options: options.iter().map(|(n, v)| ((*n).to_owned(), secret(v))).collect(),
    };
    match Location::configured(&remote, &Settings::default()).unwrap() {
        Location::Rclone(target) => target,
        Location::Local(path) => panic!("{path:?}"),
    }
}

fn secret(text: &str) -> crate::model::Secret {
    crate::model::Secret::new(text.to_owned())
}

/// Variables without the part that all have.
fn env(target: &Target) -> Vec<String> {
    let mut env: Vec<String> = target
        .env
        .iter()
        .map(|(name, value)| {
            format!("{}={}", name.strip_prefix("RCLONE_CONFIG_EXUVIA_").unwrap_or(name), value.expose())
        })
        .collect();
    env.sort();
    env
}

#[test]
fn names_are_taken_apart() {
    for (name, display) in [
        ("rclone:b2:bucket/path", "rclone:b2:bucket/path"),
        ("rclone:b2:", "rclone:b2:"),
        ("rclone:my remote:a:b,c/d", "rclone:my remote:a:b,c/d"),
        ("rclone::local:/srv/x", "rclone::local:/srv/x"),
        ("rclone::s3,env_auth=true:bucket/x", "rclone::s3,…:bucket/x"),
        ("rclone::s3,env_auth:bucket/x", "rclone::s3,…:bucket/x"),
        ("rclone:b2,hard_delete=true,key=k:x", "rclone:b2,…:x"),
        ("rclone::s3,endpoint='http://h:9000',key=k:b/x", "rclone::s3,…:b/x"),
        ("rclone::s3,endpoint=\"http://h:9000\":b", "rclone::s3,…:b"),
        ("rclone::sftp,pass='a'',b:''c',host=h:x", "rclone::sftp,…:x"),
        ("rclone::sftp,pass=\"a\"\"b:'\":x", "rclone::sftp,…:x"),
        ("rclone::sftp,pass='':x", "rclone::sftp,…:x"),
        ("rclone::sftp,pass=:x", "rclone::sftp,…:x"),
        ("rclone::s3,key=it's:x", "rclone::s3,…:x"),
    ] {
        let target = named(name).unwrap();
        assert_eq!(target.display, display, "{name}");
        assert_eq!(target.spec.expose(), name.strip_prefix("rclone:").unwrap());
        assert_eq!(target.env, []);
    }
    assert!(Location::named("/a/rclone:b:c", &Settings::default()).is_none());
    assert!(Location::named("rclone", &Settings::default()).is_none());
}

#[test]
fn what_is_no_name_is_refused() {
    for name in
        ["rclone:", "rclone::", "rclone:::x", "rclone:b2", "rclone:/srv/x", "rclone:b2/x:y", "rclone:,a=b:x"]
    {
        let error = named(name).unwrap_err();
        assert!(error.to_string().starts_with("a remote is named rclone:REMOTE:PATH; "), "{name}: {error}");
    }
    for name in ["rclone:-v:x", "rclone: b:x", "rclone:b :x", "rclone:a\nb:x"] {
        assert!(named(name).unwrap_err().to_string().contains("does not allow"), "{name:?}");
    }
    for (name, what) in [
        ("rclone::s3,key=hunter2", "there is no colon before the path"),
        ("rclone::s3,key", "there is no colon before the path"),
        ("rclone::s3,key='hunter2'", "there is no colon before the path"),
        ("rclone::s3,key='hunter2:x", "a quote is not closed"),
        ("rclone::s3,key='hunter2''", "a quote is not closed"),
        ("rclone::s3,key='hunter2'x:y", "a closed quote is followed by more text"),
        ("rclone::s3,=x:y", "a parameter has no name"),
        ("rclone::s3,,a=x:y", "a parameter has no name"),
    ] {
        assert_eq!(named(name).unwrap_err(), LocationError::Connection(what), "{name}");
    }
}

#[test]
fn s3_by_its_address() {
    let s3 = |endpoint: Option<&str>, flavor: Option<&str>| {
        let provider = Provider::S3 {
            endpoint: endpoint.map(str::to_owned),
            region: None,
            keys: Some(("id".to_owned(), secret("hunter2"))),
            storage_class: None,
            flavor: flavor.map(str::to_owned),
        };
        configured(provider, Some("b"), "p/q", &[])
    };
    let target = s3(Some("https://x.example:9000"), None);
    assert_eq!(target.spec.expose(), "exuvia:b/p/q");
    assert_eq!(target.display, "rclone:s3:b/p/q");
    assert!(!format!("{target:?}").contains("hunter2"));
    let want = [
        "ACCESS_KEY_ID=id",
        "ENDPOINT=https://x.example:9000",
        "NO_CHECK_BUCKET=true",
        "PROVIDER=Other",
        "RCLONE_CONFIG=/dev/null",
        "SECRET_ACCESS_KEY=hunter2",
        "TYPE=s3",
    ];
    assert_eq!(env(&target), want);
    for (endpoint, flavor, want) in [
        (None, None, "AWS"),
        (Some("https://s3.eu-central-1.amazonaws.com"), None, "AWS"),
        (Some("https://amazonaws.com.evil.example"), None, "Other"),
        (Some("https://notamazonaws.com"), None, "Other"),
        (Some("https://abc.R2.cloudflarestorage.com/"), None, "Cloudflare"),
        (Some("abc.eu.r2.cloudflarestorage.com:443"), None, "Cloudflare"),
        (Some("http://127.0.0.1:9000"), Some("Minio"), "Minio"),
    ] {
        let env = env(&s3(endpoint, flavor));
        assert!(env.contains(&format!("PROVIDER={want}")), "{endpoint:?} {env:?}");
        assert_eq!(env.contains(&"REGION=auto".to_owned()), want == "Cloudflare");
    }
}

#[test]
fn amazon_without_keys_asks_its_surroundings() {
    let provider = Provider::S3 {
        endpoint: None,
        region: Some("r".into()),
        keys: None,
        storage_class: Some("c".into()),
        flavor: None,
    };
    let target = configured(provider, Some("b"), "", &[("chunk_size", "8M"), ("no_check_bucket", "false")]);
    assert_eq!(target.spec.expose(), "exuvia:b");
    let want = [
        "CHUNK_SIZE=8M",
        "ENV_AUTH=true",
        "NO_CHECK_BUCKET=false",
        "PROVIDER=AWS",
        "RCLONE_CONFIG=/dev/null",
        "REGION=r",
        "STORAGE_CLASS=c",
        "TYPE=s3",
    ];
    assert_eq!(env(&target), want);
}

#[test]
fn b2_and_drives() {
    let target = configured(
        Provider::B2 { key_id: "id".into(), application_key: secret("k") },
        Some("b"),
        "exuvia",
        &[],
    );
    assert_eq!(target.display, "rclone:b2:b/exuvia");
    assert_eq!(
        env(&target),
        ["ACCOUNT=id", "HARD_DELETE=true", "KEY=k", "RCLONE_CONFIG=/dev/null", "TYPE=b2"]
    );
    let login = Login { token: secret("{}"), app_key: Some("a".into()), app_secret: Some(secret("s")) };
    let common = ["CLIENT_ID=a", "CLIENT_SECRET=s"];
    let target = configured(Provider::Dropbox(login.clone()), None, "x", &[]);
    assert_eq!((target.spec.expose(), target.display.as_str()), ("exuvia:x", "rclone:dropbox:x"));
    assert_eq!(env(&target), [common[0], common[1], "RCLONE_CONFIG=/dev/null", "TOKEN={}", "TYPE=dropbox"]);
    let target = configured(
        Provider::Drive { login: login.clone(), root_folder_id: Some("f".into()) },
        None,
        "x",
        &[],
    );
    let want =
        [common[0], common[1], "RCLONE_CONFIG=/dev/null", "ROOT_FOLDER_ID=f", "TOKEN={}", "TYPE=drive"];
    assert_eq!(env(&target), want);
    let provider = Provider::OneDrive { login, drive_id: "d".into(), drive_type: "personal".into() };
    let target = configured(provider, None, "x", &[]);
    let want = [
        common[0],
        common[1],
        "DRIVE_ID=d",
        "DRIVE_TYPE=personal",
        "RCLONE_CONFIG=/dev/null",
        "TOKEN={}",
        "TYPE=onedrive",
    ];
    assert_eq!(env(&target), want);
}

#[test]
fn others_may_stand_on_remotes_of_the_user() {
    let custom = |bucket, prefix| {
        configured(Provider::Custom { rclone_type: "crypt".into() }, bucket, prefix, &[("remote", "b2:x")])
    };
    let target = custom(None, "/srv");
    assert_eq!((target.spec.expose(), target.display.as_str()), ("exuvia:/srv", "rclone:crypt:/srv"));
    assert_eq!(env(&target), ["REMOTE=b2:x", "TYPE=crypt"]);
    assert_eq!(custom(Some("b"), "/").spec.expose(), "exuvia:b");
    assert_eq!(custom(Some("b"), "/p").spec.expose(), "exuvia:b/p");
    for remote in ["b2,key=k:x", "rclone:b2,key=k:x"] {
        let target = configured(Provider::Rclone { remote: secret(remote), config: None }, None, "", &[]);
        assert_eq!((target.spec.expose(), target.display.as_str()), ("b2,key=k:x", "rclone:b2,…:x"));
        assert_eq!(target.env, []);
    }
}
