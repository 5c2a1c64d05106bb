//! Page decoders of kdump-compressed dumps: one page in, one page out, no state and no window kept.
