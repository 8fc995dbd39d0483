//! Compressed clusters: never more than one cluster comes out of one, whatever it says.

use std::io::Read as _;

use flate2::{Decompress, FlushDecompress, Status};

use super::header::Compression;

/// The largest window that RFC 8878 asks every decoder to have.
const MAX_WINDOW: u64 = 8 << 20;

/// Decompresses `input`, which may go on behind its end, to exactly `out`; or says what is wrong.
pub(super) fn decompress(
    compression: Compression,
    input: &[u8],
    out: &mut [u8],
) -> Result<(), String> {
    match compression {
        Compression::Deflate => inflate(input, out),
        Compression::Zstd => zstd(input, out),
    }
}

fn inflate(input: &[u8], out: &mut [u8]) -> Result<(), String> {
    let mut decoder = Decompress::new(false);
    let status = decoder.decompress(input, out, FlushDecompress::Finish);
    let status = status.map_err(|error| format!("deflate: {error}"))?;
    let done = usize::try_from(decoder.total_out()).unwrap_or(0);
    match status {
        Status::Ok | Status::BufError | Status::StreamEnd if done == out.len() => Ok(()),
        Status::Ok | Status::BufError | Status::StreamEnd => {
            Err(format!("{done} bytes came out, and not {}", out.len()))
        }
    }
}

fn zstd(input: &[u8], out: &mut [u8]) -> Result<(), String> {
    let window = window(input).ok_or("it does not begin with a frame of Zstandard")?;
    if window > MAX_WINDOW {
        return Err(format!("it wants a window of {window} bytes"));
    }
    let decoder = ruzstd::decoding::StreamingDecoder::new(input);
    let mut decoder = decoder.map_err(|error| format!("zstd: {error}"))?;
    decoder.read_exact(out).map_err(|error| format!("zstd: {error}"))
}

/// The memory in bytes that a frame asks for (RFC 8878 §3.1.1.1).
fn window(frame: &[u8]) -> Option<u64> {
    let rest = frame.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?;
    let (descriptor, rest) = rest.split_first()?;
    let single_segment = descriptor & 0x20 != 0;
    if !single_segment {
        let window = *rest.first()?;
        let base = 1_u64 << (10 + u32::from(window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied()?;
    let size = rest.get(dictionary..)?;
    let number = |count: usize| {
        let bytes = size.get(..count)?.iter().rev();
        Some(bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    match descriptor >> 6 {
        0 => number(1),
        1 => Some(number(2)? + 256),
        2 => number(4),
        _ => number(8),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn deflated(bytes: &[u8]) -> Vec<u8> {
        let mut encoder =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn one_cluster_comes_out_and_never_more_or_less() {
        let data: Vec<u8> = (0..4096_u32).map(|n| (n / 9).to_le_bytes()[0]).collect();
        let mut input = deflated(&data);
        input.extend_from_slice(&[0xee; 100]);
        let mut out = vec![0; 4096];
        decompress(Compression::Deflate, &input, &mut out).unwrap();
        assert_eq!(out, data);
        // A bomb gives its first cluster, and no more.
        let bomb = deflated(&vec![7; 10 << 20]);
        decompress(Compression::Deflate, &bomb, &mut out).unwrap();
        assert_eq!(out, [7; 4096]);
        for bad in [&deflated(&data[..4000])[..], &[], &[0xff; 64]] {
            assert!(decompress(Compression::Deflate, bad, &mut out).is_err());
            assert!(decompress(Compression::Zstd, bad, &mut out).is_err());
        }
    }

    #[test]
    fn zstandard_is_read_and_large_windows_are_refused() {
        let data: Vec<u8> = (0..65_536_u32).map(|n| (n / 9).to_le_bytes()[0]).collect();
        let mut frame = ruzstd::encoding::compress_to_vec(
            &data[..],
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        frame.extend_from_slice(&[0; 300]);
        let mut out = vec![0; 65_536];
        decompress(Compression::Zstd, &frame, &mut out).unwrap();
        assert_eq!(out, data);
        let greedy = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0, 0, 0];
        let error = decompress(Compression::Zstd, &greedy, &mut out).unwrap_err();
        assert!(error.contains("window"), "{error}");
        let greedy = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        assert!(decompress(Compression::Zstd, &greedy, &mut out).unwrap_err().contains("window"));
    }
}
