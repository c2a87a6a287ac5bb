//! What the pure readers and writers of all protocols share.
//!
//! A reader is given every byte that has come so far. It says that it needs more, or hands over a frame
//! and how many bytes that took, or gives up. It never keeps state, so how the bytes were split makes no difference.

/// What a reader makes of the bytes so far: a frame and its length in bytes, none if more bytes are
/// needed, or why no frame will ever come of them.
pub type Parsed<T> = Result<Option<(T, usize)>, Unreadable>;

/// Why bytes will never be a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// They are not of the protocol.
    #[error("the bytes are not of the protocol")]
    Garbled,
    /// A line, or a frame, is longer than a reader takes.
    #[error("a line or a frame is longer than the limit")]
    TooLong,
}

/// A value that would break out of its place in a request: a line break, NUL, a space where none may be, a
/// character outside ASCII, or more bytes than the field holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be sent: it would break out of its place in the request")]
pub struct Injection(pub String);

/// The next line, without its LF or CRLF, and its whole length; none if its end has not come.
pub(crate) fn line(bytes: &[u8], limit: usize) -> Parsed<&[u8]> {
    let window = &bytes[..bytes.len().min(limit + 1)];
    match window.iter().position(|&byte| byte == b'\n') {
        Some(end) => {
            let text = &bytes[..end];
            Ok(Some((text.strip_suffix(b"\r").unwrap_or(text), end + 1)))
        }
        None if bytes.len() > limit => Err(Unreadable::TooLong),
        None => Ok(None),
    }
}
