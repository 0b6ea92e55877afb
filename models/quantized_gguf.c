#include "models/quantized_gguf.h"

#include "base/new_folder.h"
#include "models/gguf.h"

#include <string.h>

enum { BLOCK = 32, FILE_TYPE_Q4_0 = 2, FILE_TYPE_Q8_0 = 7, QUANTIZATION_VERSION = 2 };

static const char *const file_type_key = "general.file_type", *const version_key = "general.quantization_version";
static const char *const file_name = "model.gguf"; // before it has its own

struct writing {
    const struct quantized_entry *entries;
    size_t n_entries;
    const struct stored_tensor *stored;
    size_t n_stored;
    const struct gguf *gguf; // that the model came from
    bool is_int4;
    struct new_file file;
    uint64_t n_written;
};

static const struct quantized_entry *entries_of(const struct writing *w, const struct stored_tensor *stored,
                                                size_t *n) {
    return quantized_entries_of(w->entries, w->n_entries, stored, n);
}

// ------------------------------------------------------------------------------------------------------ descriptions

static void put(struct writing *w, const void *data, size_t n_bytes) {
    new_file_write(&w->file, data, n_bytes);
    w->n_written += n_bytes;
}
static void put_u32(struct writing *w, uint32_t x) {
    put(w, &x, sizeof x);
}
static void put_u64(struct writing *w, uint64_t x) {
    put(w, &x, sizeof x);
}
static void put_string(struct writing *w, const char *text) {
    put_u64(w, strlen(text));
    put(w, text, strlen(text));
}

static uint64_t padding_behind(const struct writing *w, uint64_t n_bytes) {
    const uint64_t alignment = (uint64_t)w->gguf->alignment;
    return (alignment - n_bytes % alignment) % alignment;
}

static void put_padding(struct writing *w) {
    static const char zeros[64];
    for (uint64_t left = padding_behind(w, w->n_written); left > 0;) {
        const size_t n = left < sizeof zeros ? (size_t)left : sizeof zeros;
        put(w, zeros, n);
        left -= n;
    }
}

static size_t block_bytes(const struct writing *w) {
    return sizeof(uint16_t) + (w->is_int4 ? BLOCK / 2 : BLOCK);
}

static uint64_t quantised_bytes(const struct writing *w, const struct stored_tensor *stored) {
    size_t n_values = 1;
    for (int d = 0; d < stored->n_dims; d++) n_values *= (size_t)stored->shape[d];
    return n_values / BLOCK * block_bytes(w);
}

// The file's own, but for the key that names the format of most tensors.
static void put_values(struct writing *w) {
    const struct str_view all = w->gguf->all_values;
    const struct gguf_value *type = gguf_find(w->gguf, file_type_key);
    const bool known = type && !type->is_array && type->type == GGUF_U32;
    const size_t before = known ? (size_t)(type->data - all.data) : all.n_bytes;
    put(w, all.data, before);
    if (known) {
        put_u32(w, w->is_int4 ? FILE_TYPE_Q4_0 : FILE_TYPE_Q8_0);
        put(w, type->data + sizeof(uint32_t), all.n_bytes - before - sizeof(uint32_t));
    }
    if (gguf_find(w->gguf, version_key)) return;
    put_string(w, version_key);
    put_u32(w, GGUF_U32);
    put_u32(w, QUANTIZATION_VERSION);
}

static void put_descriptions(struct writing *w) {
    uint64_t offset = 0;
    for (size_t i = 0; i < w->n_stored; i++) {
        const struct stored_tensor *stored = &w->stored[i];
        size_t n;
        const bool quantised = entries_of(w, stored, &n) != NULL;
        const char *format = !quantised ? stored->format_name : w->is_int4 ? "Q4_0" : "Q8_0";
        put_string(w, stored->name);
        put_u32(w, (uint32_t)stored->n_dims);
        for (int d = stored->n_dims - 1; d >= 0; d--) put_u64(w, (uint64_t)stored->shape[d]);
        put_u32(w, gguf_format_number(format));
        put_u64(w, offset);
        offset += quantised ? quantised_bytes(w, stored) : stored->n_bytes;
        offset += padding_behind(w, offset);
    }
}

// -------------------------------------------------------------------------------------------------------------- blocks

// Q4_0 has the first sixteen codes in the low nibbles; Q8_0 has signed numbers.
static void make_block(const struct writing *w, char *to, const uint8_t *codes, uint16_t scale) {
    memcpy(to, &scale, sizeof scale);
    uint8_t *numbers = (uint8_t *)to + sizeof scale;
    for (int k = 0; k < (w->is_int4 ? BLOCK / 2 : BLOCK); k++)
        numbers[k] = (uint8_t)(w->is_int4 ? codes[k] | codes[k + BLOCK / 2] << 4 : codes[k] ^ 0x80);
}

static void put_quantized(struct writing *w, const struct quantized *q) {
    char row[256 * (sizeof(uint16_t) + BLOCK)];
    const size_t n_blocks = (size_t)q->n_rows * (size_t)q->n_groups, n_bytes = block_bytes(w);
    size_t used = 0;
    for (size_t b = 0; b < n_blocks; b++) {
        make_block(w, row + used, q->codes + b * BLOCK, q->scales[b]);
        used += n_bytes;
        if (used + n_bytes <= sizeof row && b + 1 < n_blocks) continue;
        put(w, row, used);
        used = 0;
    }
}

static int write_file(struct writing *w, const struct new_folder *folder, struct err *err) {
    int rc = new_file_open(&w->file, folder, file_name, err);
    if (rc) return rc;
    put(w, "GGUF", 4);
    put_u32(w, w->gguf->version);
    put_u64(w, w->n_stored);
    put_u64(w, w->gguf->values.count + !gguf_find(w->gguf, version_key));
    put_values(w);
    put_descriptions(w);
    for (size_t i = 0; i < w->n_stored; i++) {
        size_t n;
        const struct quantized_entry *entries = entries_of(w, &w->stored[i], &n);
        put_padding(w);
        if (!entries) put(w, w->stored[i].data, w->stored[i].n_bytes);
        for (size_t e = 0; entries && e < n; e++) put_quantized(w, &entries[e].quantized);
    }
    return new_file_close(&w->file, err);
}

int quantized_gguf_write(const struct model *model, struct quantized_entry *entries, size_t n_entries, const char *out,
                         struct err *err) {
    struct writing w = {.entries = entries,
                        .n_entries = n_entries,
                        .gguf = model_gguf(model),
                        .is_int4 = entries->quantized.format == TENSOR_INT4};
    struct new_folder folder;
    quantized_entries_sort(entries, n_entries);
    w.stored = model_stored_tensors(model, &w.n_stored);
    int rc = new_folder_open(&folder, out, err);
    if (rc) return rc;
    rc = write_file(&w, &folder, err);
    if (!rc) rc = new_folder_finish_file(&folder, file_name, err);
    new_folder_close(&folder);
    return rc;
}
