//! Listening sockets in the file system.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::settings::ListenerSettings;

/// Opens a socket at `path`. What a broker left behind that did not end in good order is removed:
/// a socket nobody listens on, and nothing else.
///
/// The file has its permissions before anybody can connect: they are set between bind and listen.
pub(super) fn open(path: &Path, settings: &ListenerSettings) -> io::Result<(Socket, Leftover)> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Err(error) = socket.bind(&address) {
        if error.kind() != io::ErrorKind::AddrInUse || !is_stale(path)? {
            return Err(error);
        }
        fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    let leftover = Leftover::of(path)?;
    leftover.set_mode(settings.unix_mode)?;
    socket.listen(i32::try_from(settings.backlog).unwrap_or(i32::MAX))?;
    Ok((socket, leftover))
}

fn is_stale(path: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Ok(false);
    }
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    Ok(UnixStream::connect(path).is_err_and(refused))
}

/// A file made by [`open`], to be removed at the end unless another one stands there by then.
#[derive(Debug)]
pub(crate) struct Leftover {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Leftover {
    fn of(path: &Path) -> io::Result<Leftover> {
        let found = fs::symlink_metadata(path)?;
        Ok(Leftover { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    /// Gives the file these permissions.
    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        if self.is_there() {
            fs::set_permissions(&self.path, Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// It is still this file that stands there.
    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        if self.is_there()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}
