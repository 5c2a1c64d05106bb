//! XXH64 with seed 0, whose low half may end a zstd frame. Specified in `xxhash_spec.md` of xxHash.

use crate::bytes::{Endian, wide};

const P1: u64 = 0x9e37_79b1_85eb_ca87;
const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const P3: u64 = 0x1656_67b1_9e37_79f9;
const P4: u64 = 0x85eb_ca77_c2b2_ae63;
const P5: u64 = 0x27d4_eb2f_1656_67c5;

/// The hash of `bytes`.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let stripes = bytes.chunks_exact(32);
    let mut rest = stripes.remainder();
    let mut hash = P5;
    if bytes.len() >= 32 {
        let mut lanes = [P1.wrapping_add(P2), P2, 0, 0_u64.wrapping_sub(P1)];
        for stripe in stripes {
            for (lane, word) in lanes.iter_mut().zip(stripe.chunks_exact(8)) {
                *lane = round(*lane, Endian::Little.u64(word, 0).unwrap_or_default());
            }
        }
        let turns = [1, 7, 12, 18];
        let turned = lanes
            .iter()
            .zip(turns)
            .map(|(lane, turn)| lane.rotate_left(turn));
        hash = turned.fold(0, u64::wrapping_add);
        for lane in lanes {
            hash = (hash ^ round(0, lane)).wrapping_mul(P1).wrapping_add(P4);
        }
    }
    hash = hash.wrapping_add(wide(bytes.len()));
    while let Some(word) = Endian::Little.u64(rest, 0) {
        hash ^= round(0, word);
        hash = hash.rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
        rest = rest.get(8..).unwrap_or_default();
    }
    if let Some(word) = Endian::Little.u32(rest, 0) {
        hash ^= u64::from(word).wrapping_mul(P1);
        hash = hash.rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        rest = rest.get(4..).unwrap_or_default();
    }
    for &byte in rest {
        hash ^= u64::from(byte).wrapping_mul(P5);
        hash = hash.rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ hash >> 33).wrapping_mul(P2);
    hash = (hash ^ hash >> 29).wrapping_mul(P3);
    hash ^ hash >> 32
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(P2))
        .rotate_left(31)
        .wrapping_mul(P1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_are_the_reference_ones() {
        assert_eq!(sum(b""), 0xef46_db37_51d8_e999);
        assert_eq!(sum(b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(sum(b"abc"), 0x44bc_2cf5_ad77_0999);
    }
}
