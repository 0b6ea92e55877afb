// The files of the demo model and of its draft, inside the program.
//
// They are the Hugging Face files of this folder, byte for byte, in read-only memory that lives as long as the process;
// nobody owns or frees them. Files of the draft have names that begin with "draft/"; the draft uses the tokenizer of
// the demo. Any thread may call.
#pragma once

#include <stddef.h>

struct embedded_file {
    const char *name; // relative to the model's folder, e.g. "config.json" or "draft/model.safetensors"
    const char *data; // aligned to 64 bytes; not terminated by a zero
    size_t n_bytes;
};

// All files; *n becomes how many.
const struct embedded_file *demo_files(size_t *n);
