//! `culex passwd`: files of users.

use super::failure::Failure;
use crate::auth::password::{Hash, Method, SALT_BYTES};
use crate::auth::{records, scram};
use ring::rand::{SecureRandom, SystemRandom};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Permissions of a new file: it is for its owner alone.
const MODE: u32 = 0o600;

/// Manages a password file, as `mosquitto_passwd` does.
///
/// Adds the user or changes its password. The password is asked for; without a terminal the first
/// line of standard input is taken. Passwords on the command line (-b) can be seen by others.
///
/// Exit status: 0 done, 1 wrong options or a file that cannot be used, 14 the system failed.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one option")]
#[command(group = clap::ArgGroup::new("act").args(["create", "delete", "upgrade"]))]
pub(super) struct Args {
    /// Make a new file; an old one is overwritten.
    #[arg(short, long)]
    create: bool,
    /// Take the password from the command line.
    #[arg(short, long, conflicts_with_all = ["delete", "upgrade"])]
    batch: bool,
    /// Delete the user.
    #[arg(short = 'D', long)]
    delete: bool,
    /// Hash the passwords that stand in the file as plain text.
    #[arg(short = 'U', long)]
    upgrade: bool,
    /// Kind of hash.
    #[arg(short = 'H', long, value_name = "HASH", default_value = "argon2id")]
    hash: Kind,
    /// Iterations of sha512-pbkdf2 (1000) or scram (4096).
    #[arg(short = 'I', long, value_name = "N")]
    iterations: Option<NonZeroU32>,
    /// Write keys for SCRAM-SHA-256 (`scram_file` of the settings) instead of hashes.
    #[arg(long, conflicts_with = "hash")]
    scram: bool,
    /// The file.
    file: PathBuf,
    /// The user.
    #[arg(required_unless_present = "upgrade", conflicts_with = "upgrade")]
    user: Option<String>,
    /// The password, with -b.
    #[arg(requires = "batch", required_if_eq("batch", "true"))]
    password: Option<String>,
}

/// Names as `mosquitto_passwd` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Sha512,
    #[value(name = "sha512-pbkdf2")]
    Pbkdf2,
    Argon2id,
}

/// A password, wiped when it goes.
type Password = Zeroizing<String>;

/// Does what the options say.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(user) = &args.user {
        check_user(user).map_err(Failure::usage)?;
    }
    if args.iterations.is_some() && !args.scram && args.hash != Kind::Pbkdf2 {
        return Err(Failure::usage("-I is for -H sha512-pbkdf2 and --scram".to_owned()));
    }
    let text = if args.create { Zeroizing::new(String::new()) } else { read(&args.file)? };
    let new = match &args.user {
        None => upgraded(args, &text)?,
        Some(user) if args.delete => deleted(args, &text, user)?,
        Some(user) => {
            let password = password(args)?;
            let secret = secret(args, &password)?;
            with_user(&text, user, &secret)
        }
    };
    check(args, &new)?;
    write(&args.file, &new).map_err(|error| unusable(&args.file, &error))
}

fn check_user(user: &str) -> Result<(), String> {
    let wrong = user.is_empty()
        || user.trim() != user
        || user.starts_with('#')
        || user.contains([':', '\n', '\r', '\0']);
    if wrong {
        return Err("the user name must not be empty, begin with '#', begin or end with a blank, \
                    or hold ':' or a line break"
            .to_owned());
    }
    Ok(())
}

/// The right half of a line.
fn secret(args: &Args, password: &Password) -> Result<String, Failure> {
    if password.is_empty() {
        return Err(Failure::usage("the password is empty".to_owned()));
    }
    let bytes = password.as_bytes();
    if args.scram {
        if !password.is_ascii() || password.contains(|c: char| c.is_ascii_control()) {
            return Err(Failure::usage("a SCRAM password must be printable ASCII".to_owned()));
        }
        let iterations = args.iterations.unwrap_or(scram::ITERATIONS);
        return Ok(
            scram::Stored::new(bytes, iterations, &random::<{ scram::SALT_BYTES }>()?).to_string()
        );
    }
    let method = match args.hash {
        Kind::Sha512 => Method::Sha512,
        Kind::Pbkdf2 => Method::Pbkdf2(args.iterations.unwrap_or(Method::PBKDF2_ITERATIONS)),
        Kind::Argon2id => Method::Argon2id,
    };
    Ok(Hash::new(method, bytes, random::<SALT_BYTES>()?).to_string())
}

/// The text with a user's line replaced, or added at its end.
fn with_user(text: &str, user: &str, secret: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(text.len() + user.len() + secret.len() + 2));
    let mut found = false;
    for line in text.lines() {
        if user_of(line) == Some(user) {
            found = true;
            put(&mut out, &[user, ":", secret, "\n"]);
        } else {
            put(&mut out, &[line, "\n"]);
        }
    }
    if !found {
        put(&mut out, &[user, ":", secret, "\n"]);
    }
    out
}

fn put(out: &mut String, pieces: &[&str]) {
    for piece in pieces {
        out.push_str(piece);
    }
}

fn deleted(args: &Args, text: &str, user: &str) -> Result<Zeroizing<String>, Failure> {
    let mut out = Zeroizing::new(String::with_capacity(text.len()));
    text.lines()
        .filter(|line| user_of(line) != Some(user))
        .for_each(|line| put(&mut out, &[line, "\n"]));
    if out.lines().count() == text.lines().count() {
        let file = args.file.display();
        return Err(Failure::usage(format!("{file}: there is no user {user:?}")));
    }
    Ok(out)
}

/// Every password that is not a hash yet is hashed.
fn upgraded(args: &Args, text: &str) -> Result<Zeroizing<String>, Failure> {
    let mut out = Zeroizing::new(text.to_owned());
    for record in records(text.as_bytes()) {
        let (line, user, plain) =
            record.map_err(|error| at_line(args, error.line, error.message))?;
        if Hash::parse(plain).is_ok() || scram::Stored::parse(plain).is_ok() {
            continue;
        }
        if plain.is_empty() {
            return Err(at_line(args, line, "the password is empty"));
        }
        let secret = secret(args, &Zeroizing::new(plain.to_owned()))?;
        out = with_user(&out, user, &secret);
    }
    Ok(out)
}

/// What was made must be readable by the broker; a file it would refuse is not written.
fn check(args: &Args, text: &str) -> Result<(), Failure> {
    let mut users = std::collections::BTreeSet::new();
    for record in records(text.as_bytes()) {
        let (line, user, secret) =
            record.map_err(|error| at_line(args, error.line, error.message))?;
        let parsed = if args.scram {
            scram::Stored::parse(secret).map(drop)
        } else {
            Hash::parse(secret).map(drop)
        };
        parsed.map_err(|message| at_line(args, line, message))?;
        if !users.insert(user.to_owned()) {
            return Err(at_line(args, line, "this user is there twice"));
        }
    }
    Ok(())
}

fn user_of(line: &str) -> Option<&str> {
    if line.starts_with('#') {
        return None;
    }
    line.split_once(':').map(|(user, _)| user.trim())
}

fn password(args: &Args) -> Result<Password, Failure> {
    if let Some(password) = &args.password {
        return Ok(Zeroizing::new(password.clone()));
    }
    let failed = |error: io::Error| Failure::system("cannot read the password", &error);
    let mut stdin = io::stdin().lock();
    if !stdin.is_terminal() {
        return line(&mut stdin).map_err(failed);
    }
    let first = hidden("Password: ").map_err(failed)?;
    let second = hidden("Reenter password: ").map_err(failed)?;
    if first != second {
        return Err(Failure::usage("the passwords are not the same".to_owned()));
    }
    Ok(first)
}

/// One line from the terminal, not shown.
fn hidden(prompt: &str) -> io::Result<Password> {
    let mut stdin = io::stdin().lock();
    write!(io::stderr(), "{prompt}")?;
    let shown = tcgetattr(&stdin)?;
    let mut dark = shown.clone();
    dark.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Now, &dark)?;
    let password = line(&mut stdin);
    tcsetattr(&stdin, OptionalActions::Now, &shown)?;
    writeln!(io::stderr())?;
    password
}

fn line(input: &mut impl BufRead) -> io::Result<Password> {
    let mut line = Zeroizing::new(String::new());
    input.read_line(&mut line)?;
    let end = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(end);
    Ok(line)
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::usage(format!("{}: there is no such file (-c makes one)", path.display())))
        }
        Err(error) => Err(unusable(path, &error)),
    }
}

/// Replaces the file in one step: a broker that reads it meanwhile sees the old or the new one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mode = fs::metadata(path).map_or(MODE, |old| old.permissions().mode() & 0o777);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let written = (|| {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(MODE).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    })();
    if written.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
        // Nothing is left of the attempt; what was wrong is told already.
        let _gone = fs::remove_file(&fresh);
    }
    written
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    let failed = |_| Failure::system("no random numbers", &io::Error::other("the system has none"));
    filled.map_err(failed)?;
    Ok(bytes)
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()))
}

fn at_line(args: &Args, line: usize, message: &str) -> Failure {
    Failure::usage(format!("{}:{line}: {message}", args.file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_replaced_in_its_place() {
        let text = "# users\nada:old\n\nbob:x\n";
        assert_eq!(*with_user(text, "ada", "new"), "# users\nada:new\n\nbob:x\n");
        assert_eq!(*with_user(text, "eve", "new"), "# users\nada:old\n\nbob:x\neve:new\n");
        assert_eq!(*with_user("a:1", "b", "2"), "a:1\nb:2\n");
    }

    #[test]
    fn names_that_a_file_cannot_hold_are_refused() {
        for wrong in ["", " a", "a ", "#a", "a:b", "a\nb", "a\0b"] {
            assert!(check_user(wrong).is_err(), "{wrong:?}");
        }
        assert!(check_user("a b#").is_ok());
    }
}
