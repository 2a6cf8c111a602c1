//! Files of certificates and keys that cannot be used: one line, and no start.

use std::fmt::Write as _;
use std::path::Path;

use crate::harness::{Authority, allow, culex};

/// Starts a broker that must fail with this line.
#[track_caller]
fn fails(tls: &str, expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("culex.toml");
    let mut text = "[[listener]]\naddress = '127.0.0.1:0'\n[listener.tls]\n".to_owned();
    text.push_str(tls);
    std::fs::write(&file, text).unwrap();
    let arguments = ["serve", "-c", file.to_str().unwrap(), "--durability", "none"];
    let output = culex(&arguments).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(expected), "no {expected:?} in {text}");
}

fn pair(certificate: &Path, key: &Path) -> String {
    format!("cert_file = '{}'\nkey_file = '{}'\n", certificate.display(), key.display())
}

#[test]
fn each_fault_has_its_line() {
    let authority = Authority::new("ca");
    let good = authority.server("localhost");
    let other = authority.server("other");
    let expired = authority.issue("old", |params| {
        params.not_after = rcgen::date_time_ymd(2025, 1, 1);
    });
    let missing = good.key.with_file_name("missing.key");
    fails(&pair(&good.certificate, &missing), "missing.key: No such file or directory");
    fails(&pair(&good.key, &good.key), "holds no certificate in PEM form");
    allow(&authority.file, 0o600);
    fails(&pair(&good.certificate, &authority.file), "holds no private key in PEM form");
    fails(&pair(&good.certificate, &other.key), "is not the key of the certificate in");
    fails(&pair(&expired.certificate, &expired.key), "the certificate has expired on Jan  1 ");
    let mut client = pair(&good.certificate, &good.key);
    write!(client, "client_auth = 'required'\nca_file = '{}'\n", good.key.display()).unwrap();
    fails(&client, "holds no certificate in PEM form");
    writeln!(client, "crl_file = '{}'", good.key.display()).unwrap();
    let client = client.replace(
        &format!("ca_file = '{}'", good.key.display()),
        &format!("ca_file = '{}'", authority.file.display()),
    );
    fails(&client, "holds no revocation list in PEM form");
    allow(&good.key, 0o604);
    fails(&pair(&good.certificate, &good.key), "everybody can read this key (mode 604)");
    allow(&good.key, 0o620);
    fails(&pair(&good.certificate, &good.key), "others can change this key (mode 620)");
}

#[test]
fn the_key_may_be_that_of_the_user_whom_root_becomes() {
    let authority = Authority::new("ca");
    let good = authority.server("localhost");
    // Only root can give files away, and become another.
    let nobody = std::process::Command::new("chown").arg("nobody").arg(&good.key).output();
    if !nobody.is_ok_and(|output| output.status.success()) {
        return println!("SKIPPED: not root");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("culex.toml");
    let listener = "[[listener]]\naddress = '127.0.0.1:0'\n[listener.tls]\n";
    let pair = pair(&good.certificate, &good.key);
    let check = |more: &str| {
        std::fs::write(&file, format!("{listener}{pair}{more}")).unwrap();
        let output = culex(&["check", "-c", file.to_str().unwrap()]).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (is_good, text) = check("[process]\nuser = 'nobody'\n");
    assert!(is_good, "{text}");
    let (is_good, text) = check("");
    assert!(!is_good && text.contains("belongs neither to root nor"), "{text}");
}
