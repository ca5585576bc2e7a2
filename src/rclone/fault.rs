//! What rclone's messages mean.

/// What kind of failure a storage service reports. Decides whether trying again makes sense, and which
/// hint helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// May go away by itself: a network or server error, a rate limit, a time-out.
    Transient,
    /// Still failing when the time for it was up.
    Deadline,
    /// The credentials are wrong or expired.
    Authentication,
    /// The credentials do not allow this.
    Permission,
    /// The account or the disk is full.
    Quota,
    /// The bucket, share or host does not exist.
    NoContainer,
    /// What arrived is not what was sent, again and again.
    Corrupt,
    /// rclone is missing, too old, or cannot use its configuration.
    Setup,
    /// The user asked to stop.
    Interrupted,
    /// Anything else; tried again, since most failures of services pass.
    Other,
}

impl Fault {
    /// True when another try may succeed.
    #[must_use]
    pub fn is_worth_retrying(self) -> bool {
        matches!(self, Self::Transient | Self::Corrupt | Self::Other)
    }
}

/// Why rclone could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// rclone's words or ours: one line, no secrets.
    pub message: String,
    /// What kind of failure this is.
    pub fault: Fault,
}

/// What the reason of one failed request says about its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// There is no such object.
    Missing,
    /// The object ends before the range that was asked for.
    OutOfRange,
    /// The service, or the way to it, failed.
    Failed(Fault),
}

/// Words of rclone's for an object that is not there: its own, S3's, those of local files and SFTP,
/// those of WebDAV.
const MISSING: &[&str] = &[
    "object not found",
    "directory not found",
    "is a directory not a file",
    "nosuchkey",
    "no such file or directory",
    "file does not exist",
    "object not found: 404",
    "404 not found",
    "blobnotfound",
    "path/not_found",
    "itemnotfound",
    "statuscode: 404, requestid",
];

/// The first row with a word that occurs in the message tells the fault, so what is certain stands above
/// what is general: a bucket that is not there is also a 404, a full disk is also a 403 at Google.
const TABLE: &[(Fault, &[&str])] = &[
    (
        Fault::NoContainer,
        &[
            "nosuchbucket",
            "bucket does not exist",
            "bucketnotfound",
            "containernotfound",
            "no such container",
            "share not found",
            "bad_network_name",
            "the specified bucket",
            "account_is_disabled",
        ],
    ),
    (
        Fault::Quota,
        &[
            "insufficient_space",
            "insufficient space",
            "insufficient storage",
            "insufficientstorage",
            "507 ",
            "storagequotaexceeded",
            "storage quota",
            "quotaexceeded",
            "quota exceeded",
            "quotalimitreached",
            "quotareached",
            "quota limit reached",
            "disk quota",
            "over quota",
            "overquota",
            "insufficientquota",
            "no space left on device",
            "storage cap exceeded",
            "cap_exceeded",
            "uploads exceed quota",
            "not enough space",
            "xminiofull",
        ],
    ),
    (
        Fault::Transient,
        &[
            "userratelimitexceeded",
            "ratelimitexceeded",
            "rate limit",
            "rate_limit",
            "slowdown",
            "slow down",
            "too many requests",
            "too_many_requests",
            "too_many_write_operations",
            "activitylimitreached",
            "statuscode: 429",
            "status code: 429",
            "429 ",
            "requesttimetooskewed",
            "requesttimeout",
        ],
    ),
    (
        Fault::Authentication,
        &[
            "invalidaccesskeyid",
            "signaturedoesnotmatch",
            "authorizationheadermalformed",
            "invalidsecurity",
            "expiredtoken",
            "tokenrefreshrequired",
            "invalid_grant",
            "invalid_access_token",
            "expired_access_token",
            "expired_auth_token",
            "bad_auth_token",
            "invalidauthenticationtoken",
            "invalid credentials",
            "invalid_client",
            "token expired",
            "expired and there's no refresh token",
            "couldn't fetch token",
            "maybe token expired",
            "empty token found",
            "unable to authenticate",
            "authentication failed",
            "authenticationfailed",
            "authentication required",
            "unauthenticated",
            "login incorrect",
            "530 ",
            "logon_failure",
            "logon is invalid",
            "no credentials",
            "nocredentialproviders",
            "failed to refresh cached credentials",
            "failed to retrieve credentials",
            "knownhosts: key",
            "statuscode: 401",
            "status code: 401",
            "401 ",
            "unauthorized",
        ],
    ),
    (
        Fault::Permission,
        &[
            "accessdenied",
            "access denied",
            "access_denied",
            "allaccessdisabled",
            "permission denied",
            "permission_denied",
            "insufficientpermissions",
            "insufficientfilepermissions",
            "insufficient_scope",
            "insufficient authentication scopes",
            "not allowed",
            "operation not permitted",
            "read-only file system",
            "methodnotallowed",
            "statuscode: 403",
            "status code: 403",
            "403 ",
            "forbidden",
        ],
    ),
    (
        Fault::Setup,
        &[
            "didn't find section in config file",
            "didn't find backend called",
            "unknown flag",
            "unknown command",
            "unknown shorthand flag",
            "invalid argument \"",
            "failed to load config",
            "failed to read config",
            "unable to decrypt configuration",
            "couldn't decrypt configuration",
            "config_pass",
            "failed to create symlink",
            "error parsing config",
            "couldn't parse config item",
            "bad character in connection string",
            "unsupported transport",
            "x509:",
            "couldn't connect ssh: ssh: handshake failed: knownhosts",
        ],
    ),
    (
        Fault::Transient,
        &[
            "connection refused",
            "connection reset",
            "connection lost",
            "connection aborted",
            "broken pipe",
            "timeout",
            "timed out",
            "deadline exceeded",
            "no such host",
            "temporary failure in name resolution",
            "server misbehaving",
            "network is unreachable",
            "no route to host",
            "host is down",
            "unexpected eof",
            ": eof",
            "use of closed network connection",
            "connection closed",
            "transport connection broken",
            "http2: ",
            "tls handshake",
            "internalerror",
            "internal server error",
            "serviceunavailable",
            "service unavailable",
            "bad gateway",
            "statuscode: 5",
            "status code: 5",
            "500 ",
            "502 ",
            "503 ",
            "504 ",
            "423 ",
            "server busy",
            "serverbusy",
            "backenderror",
            "try again",
            "couldn't connect",
        ],
    ),
];

/// What kind of failure rclone's words tell of.
#[must_use]
pub fn classify(message: &str) -> Fault {
    let message = message.to_lowercase();
    let says = |word: &&str| {
        // A number is a status only where it begins a word: not the end of a request's id.
        match message.find(*word) {
            Some(_) if !word.starts_with(|c: char| c.is_ascii_digit()) => true,
            Some(_) => format!(" {message}").contains(&format!(" {word}")),
            None => false,
        }
    };
    TABLE.iter().find(|(_, words)| words.iter().any(&says)).map_or(Fault::Other, |(fault, _)| *fault)
}

/// What the reason that rclone logged for a failed request means.
#[must_use]
pub fn meaning(message: &str) -> Meaning {
    let fault = classify(message);
    let lower = message.to_lowercase();
    if lower.contains("invalidrange") || lower.contains("416") && lower.contains("range") {
        return Meaning::OutOfRange;
    }
    // No other fault may hide behind words such as "not found".
    if fault == Fault::Other && MISSING.iter().any(|word| lower.contains(word)) {
        return Meaning::Missing;
    }
    Meaning::Failed(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_1_60_and_1_75_are_understood() {
        use Fault::{Authentication, Permission, Quota, Setup, Transient};
        // Taken from the logs of rclone 1.60.1 and 1.75.2.
        for (message, expected) in [
            ("Forbidden: Forbidden\n\tstatus code: 403, request id: , host id: ", Permission),
            (
                "operation error S3: HeadObject, https response error StatusCode: 403, RequestID: , HostID: , api error Forbidden: Forbidden",
                Permission,
            ),
            (
                "SignatureDoesNotMatch: The request signature we calculated does not match the signature you provided. Check your key and signing method.\n\tstatus code: 403, request id: , host id: ",
                Authentication,
            ),
            (
                "failed to prepare upload: operation error S3: CreateBucket, https response error StatusCode: 403, RequestID: , HostID: , api error InvalidAccessKeyId: The Access Key Id you provided does not exist in our records.",
                Authentication,
            ),
            ("couldn't list files: 401 Unauthorized: 401 Unauthorized", Authentication),
            ("Update mkParentDir failed: 401 Unauthorized: 401 Unauthorized", Authentication),
            ("read metadata failed: 403 Forbidden", Permission),
            ("unchunked simple update failed: 507 Insufficient Storage", Quota),
            ("couldn't list files: 503 Service Unavailable", Transient),
            ("429 Too Many Requests", Transient),
            (
                "read metadata failed: Propfind \"http://127.0.0.1:1/r/index/g1\": dial tcp 127.0.0.1:1: connect: connection refused",
                Transient,
            ),
            (
                "read metadata failed: Propfind \"http://no.such.host.invalid/r/\": dial tcp: lookup no.such.host.invalid on 10.255.255.53:53: no such host",
                Transient,
            ),
            (
                "Failed to create file system for \"exuviarepo:\": NewFs: couldn't connect SSH: ssh: handshake failed: ssh: unable to authenticate, attempted methods [none password], no supported methods remain",
                Authentication,
            ),
            (
                "Failed to create file system for \"exuviarepo:\": NewFs: couldn't connect SSH: dial tcp 127.0.0.1:1: connect: connection refused",
                Transient,
            ),
            ("Failed to create file system for \"exuviarepo:\": didn't find section in config file", Setup),
            ("didn't find section in config file (\"nosuch\")", Setup),
            (
                "LoadCustomCABundleError: unable to load custom CA bundle, HTTPClient's transport unsupported type caused by: unsupported transport, *fshttp.Transport",
                Setup,
            ),
            (
                "SerializationError: failed to unmarshal error message\n\tstatus code: 500, request id: 54811C1723E0A88A",
                Transient,
            ),
            ("InternalError: Internal Error\n\tstatus code: 500, request id: 54811C1723E0A886", Transient),
            ("Update mkParentDir failed: Conflict: 409 Conflict", Fault::Other),
        ] {
            assert_eq!(classify(message), expected, "{message}");
        }
    }

    #[test]
    fn words_that_services_document_are_understood() {
        use Fault::{Authentication, NoContainer, Permission, Quota, Setup, Transient};
        for (message, expected) in [
            ("NoSuchBucket: The specified bucket does not exist\n\tstatus code: 404", NoContainer),
            ("api error AccessDenied: Access Denied", Permission),
            ("api error SlowDown: Please reduce your request rate.", Transient),
            ("ExpiredToken: The provided token has expired.\n\tstatus code: 400", Authentication),
            ("path/insufficient_space/..", Quota),
            (
                "googleapi: Error 403: The user's Drive storage quota has been exceeded., storageQuotaExceeded",
                Quota,
            ),
            ("googleapi: Error 403: User Rate Limit Exceeded, userRateLimitExceeded", Transient),
            ("googleapi: Error 403: Insufficient Permission, insufficientPermissions", Permission),
            ("insufficientStorage: quotaLimitReached: Quota limit reached", Quota),
            ("too_many_requests/..", Transient),
            (
                "couldn't fetch token - maybe it has expired? - refresh with \"rclone config reconnect x:\": oauth2: cannot fetch token: 400 Bad Request Response: {\"error\": \"invalid_grant\"}",
                Authentication,
            ),
            ("expired_access_token/...", Authentication),
            ("write tcp 1.2.3.4:443: i/o timeout", Transient),
            ("read: connection reset by peer", Transient),
            ("unexpected EOF", Transient),
            ("x509: certificate signed by unknown authority", Setup),
            ("open /mnt/x: permission denied", Permission),
            ("write /mnt/x: no space left on device", Quota),
            ("something quite new", Fault::Other),
            ("", Fault::Other),
            ("request id 1503 x", Fault::Other),
        ] {
            assert_eq!(classify(message), expected, "{message}");
        }
    }

    #[test]
    fn only_what_is_absent_is_missing() {
        for message in [
            "object not found",
            "directory not found",
            "open /tmp/x/index/a: no such file or directory",
            "api error NoSuchKey: The specified key does not exist.",
            "is a directory not a file",
        ] {
            assert_eq!(meaning(message), Meaning::Missing, "{message}");
        }
        for message in [
            "NoSuchBucket: The specified bucket does not exist",
            "dial tcp: lookup x: no such host",
            "didn't find section in config file",
            "401 Unauthorized",
            "oauth2: cannot fetch token: 404 Not Found: invalid_client",
            "",
        ] {
            assert!(matches!(meaning(message), Meaning::Failed(_)), "{message}");
        }
        let range = "operation error S3: GetObject, https response error StatusCode: 416, api error InvalidRange: InvalidRange";
        assert_eq!(meaning(range), Meaning::OutOfRange);
        assert_eq!(meaning("InvalidRange: InvalidRange\n\tstatus code: 416"), Meaning::OutOfRange);
    }
}
