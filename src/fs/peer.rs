//! Who is at the other end of a Unix socket.

use std::os::unix::net::UnixStream;

/// False when the system says that the peer is another user, and not root. Where it says nothing, the folder of
/// the socket must do.
#[must_use]
pub fn is_our_peer(stream: &UnixStream) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let peer = rustix::net::sockopt::socket_peercred(stream).map(|peer| peer.uid.as_raw());
        peer.is_ok_and(|uid| uid == super::effective_uid() || uid == 0)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = stream;
        true
    }
}
