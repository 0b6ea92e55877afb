#include "cli/api_key.h"

#include "base/file_map.h"
#include "base/mem.h"

int api_key_read(char **out, const char *path, struct err *err) {
    struct file_map map;
    int rc = file_map_open(&map, path, err);
    if (rc) return rc;
    size_t n = 0;
    while (n < map.n_bytes && (unsigned char)map.data[n] > ' ') n++;
    *out = mem_copy_string(map.data, n);
    file_map_close(&map);
    return n ? 0 : err_set(err, ERR_INVALID, "%s: the first line holds no key", path);
}
