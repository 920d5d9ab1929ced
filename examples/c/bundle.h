/* Finds the members of a bundle, which is a ZIP file of stored (never compressed) members, and the arrays of its
 * test cases, which are laid out as safetensors is. docs/ describes both. A bundle that was copied from elsewhere
 * should be checked first: `python3 model.oeb verify`. This reader checks only that it stays inside the file.
 */
#ifndef OBERT_EDGE_EXAMPLES_BUNDLE_H
#define OBERT_EDGE_EXAMPLES_BUNDLE_H

#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Some bytes of the file; their owner is the map. */
typedef struct span {
  const void* data;
  size_t bytes;
} span;

/* An unsigned little-endian number of `bytes` bytes. */
static uint64_t read_number(const uint8_t* at, int bytes) {
  uint64_t value = 0;
  while (bytes--) value = value << 8 | at[bytes];
  return value;
}

/* Maps a whole file for reading. */
static int map_file(const char* path, span* file) {
  struct stat facts;
  int descriptor = open(path, O_RDONLY);
  if (descriptor < 0) return 0;
  int known = !fstat(descriptor, &facts);
  file->bytes = known ? (size_t)facts.st_size : 0;
  void* data = known ? mmap(NULL, file->bytes, PROT_READ, MAP_PRIVATE, descriptor, 0) : MAP_FAILED;
  close(descriptor);
  file->data = data;
  return data != MAP_FAILED;
}

/* Walks the ZIP directory, which the last 22 bytes of the file point at: one record of 46 bytes and a name each. */
static int find_member(span file, const char* name, span* member) {
  const uint8_t* bytes = file.data;
  if (file.bytes < 22 || memcmp(bytes + file.bytes - 22, "PK\5\6", 4)) return 0;
  uint64_t count = read_number(bytes + file.bytes - 12, 2), at = read_number(bytes + file.bytes - 6, 4);
  for (; count--; at += 46 + read_number(bytes + at + 28, 2)) {
    if (at + 46 > file.bytes) return 0;
    uint64_t length = read_number(bytes + at + 28, 2), header = read_number(bytes + at + 42, 4);
    if (at + 46 + length > file.bytes || header + 30 > file.bytes) return 0;
    if (length != strlen(name) || memcmp(bytes + at + 46, name, length)) continue;
    /* The data follows a header of 30 bytes, the name again, and padding up to a multiple of 64. */
    uint64_t start = header + 30 + read_number(bytes + header + 26, 2) + read_number(bytes + header + 28, 2);
    member->data = bytes + start;
    member->bytes = read_number(bytes + at + 24, 4);
    return start + member->bytes <= file.bytes;
  }
  return 0;
}

/* Finds the array of `cases` after the `skip`-th occurrence of a name's beginning in the JSON header. */
static int find_named(span cases, const char* beginning, int skip, span* array) {
  if (cases.bytes < 8) return 0;
  const char* text = (const char*)cases.data + 8;
  uint64_t header = read_number(cases.data, 8), length = strlen(beginning), first, end;
  if (header > cases.bytes - 8) return 0;
  for (uint64_t at = 0; at + length < header; ++at) {
    if (memcmp(text + at, beginning, length) || skip--) continue;
    const char* offsets = strstr(text + at, "data_offsets");
    if (!offsets || sscanf(offsets, "data_offsets\": [%" SCNu64 ", %" SCNu64, &first, &end) != 2) return 0;
    array->data = text + header + first;
    array->bytes = end - first;
    return first <= end && end <= cases.bytes - 8 - header;
  }
  return 0;
}

/* The array `name` of test case `number`: starts, ids or token_types, all int32. */
static int find_array(span cases, int number, const char* name, span* array) {
  char quoted[64];
  snprintf(quoted, sizeof quoted, "\"%d.%s\"", number, name);
  return find_named(cases, quoted, 0, array);
}

/* What output `index` of the model must be for test case `number`: float32, exact to the bit. */
static int find_output(span cases, int number, int index, span* array) {
  char quoted[64];
  snprintf(quoted, sizeof quoted, "\"%d.output.", number);
  return find_named(cases, quoted, index, array);
}

#endif
