//! What fuzz targets share. Each target is a file that asserts something of any bytes: libFuzzer calls it, and a test of
//! the workspace does with the corpus, on any toolchain. Both find the targets by listing.

mod tape;

use ajar_probe::codec::Parsed;

pub use tape::Tapes;

/// A frame lies within the bytes, and needed all of them: the same bytes cut shorter are no other frame.
pub fn framed<T>(data: &[u8], parse: impl Fn(&[u8]) -> Parsed<T>) -> Option<(T, usize)> {
    let frame = parse(data).ok().flatten();
    if let Some((_, length)) = &frame {
        assert!((1..=data.len()).contains(length));
        let cut = parse(&data[..length - 1]);
        assert!(
            matches!(cut, Ok(None)),
            "a frame of {length} bytes was taken early"
        );
    }
    frame
}
