//! A broker with a listener of each kind, and the certificates for it.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use std::fs::{Permissions, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Places of the listeners in the configuration; the first is plain.
pub(crate) const TLS: usize = 1;
pub(crate) const MUTUAL_TLS: usize = 2;
pub(crate) const WEBSOCKET: usize = 3;
pub(crate) const WEBSOCKET_TLS: usize = 4;
pub(crate) const OTHER_PAGES: usize = 5;

/// Files of an authority, a server and a client.
pub(crate) struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let own = Self { directory: tempfile::tempdir().expect("a temporary directory") };
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Culex tests");
        let root = params.self_signed(&key).expect("signed");
        write(own.path("ca.crt"), root.pem()).expect("written");
        let issuer = Issuer::new(params, key);
        for (name, usage) in [
            ("server", ExtendedKeyUsagePurpose::ServerAuth),
            ("client", ExtendedKeyUsagePurpose::ClientAuth),
        ] {
            let key = KeyPair::generate().expect("a key");
            let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
            let mut params = CertificateParams::new(names).expect("names");
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![usage];
            params.use_authority_key_identifier_extension = true;
            let certificate = params.signed_by(&key, &issuer).expect("signed");
            write(own.path(&format!("{name}.crt")), certificate.pem()).expect("written");
            let key_file = own.path(&format!("{name}.key"));
            write(&key_file, key.serialize_pem()).expect("written");
            set_permissions(&key_file, Permissions::from_mode(0o600)).expect("its owner");
        }
        own
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The configuration of a broker with all listeners.
    pub(crate) fn config(&self) -> String {
        let file = |name| self.path(name).display().to_string();
        let tls = format!(
            "[listener.tls]\ncert_file = '{}'\nkey_file = '{}'\n",
            file("server.crt"),
            file("server.key")
        );
        let mutual = format!(
            "{tls}ca_file = '{}'\nclient_auth = 'required'\nuse_identity_as_username = true\n",
            file("ca.crt")
        );
        let websocket = "protocol = 'websocket'\n";
        let others = format!("{websocket}[listener.websocket]\norigins = ['https://a.example']\n");
        [
            String::new(),
            tls.clone(),
            mutual,
            websocket.to_owned(),
            format!("{websocket}{tls}"),
            others,
        ]
        .map(|lines| format!("[[listener]]\naddress = '127.0.0.1:0'\n{lines}"))
        .concat()
    }

    /// Variables of a client that trusts the authority.
    pub(crate) fn trusted(&self) -> Vec<(&'static str, PathBuf)> {
        vec![("CULEX_TEST_CA", self.path("ca.crt"))]
    }

    /// The same of one with a certificate of its own.
    pub(crate) fn trusted_and_own(&self) -> Vec<(&'static str, PathBuf)> {
        let mut variables = self.trusted();
        variables.push(("CULEX_TEST_CERTIFICATE", self.path("client.crt")));
        variables.push(("CULEX_TEST_KEY", self.path("client.key")));
        variables
    }
}
