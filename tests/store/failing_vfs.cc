#include "failing_vfs.h"

#include <sqlite3.h>

#include <cstdlib>
#include <cstring>

namespace conductor::store {
namespace {

uint64_t count = 0;
uint64_t fail_from = 0;
sqlite3_vfs* real = nullptr;

struct File {
  sqlite3_file base;
  // The real one's, behind.
  [[nodiscard]] sqlite3_file* under() { return reinterpret_cast<sqlite3_file*>(this + 1); }
};

sqlite3_file* Under(sqlite3_file* file) { return reinterpret_cast<File*>(file)->under(); }

bool Fails() {
  ++count;
  return fail_from != 0 && count >= fail_from;
}

int Write(sqlite3_file* file, const void* bytes, int size, sqlite3_int64 at) {
  sqlite3_file* under = Under(file);
  if (!Fails()) return under->pMethods->xWrite(under, bytes, size, at);
  (void)under->pMethods->xWrite(under, bytes, size / 2, at);
  return SQLITE_FULL;
}

int Truncate(sqlite3_file* file, sqlite3_int64 size) {
  sqlite3_file* under = Under(file);
  return Fails() ? SQLITE_IOERR_TRUNCATE : under->pMethods->xTruncate(under, size);
}

int Sync(sqlite3_file* file, int flags) {
  sqlite3_file* under = Under(file);
  return Fails() ? SQLITE_IOERR_FSYNC : under->pMethods->xSync(under, flags);
}

sqlite3_io_methods methods;

// The rest is the real one's.
void FillMethods() {
  methods.iVersion = 1;
  methods.xClose = [](sqlite3_file* f) { return Under(f)->pMethods->xClose(Under(f)); };
  methods.xRead = [](sqlite3_file* f, void* to, int size, sqlite3_int64 at) {
    return Under(f)->pMethods->xRead(Under(f), to, size, at);
  };
  methods.xWrite = Write;
  methods.xTruncate = Truncate;
  methods.xSync = Sync;
  methods.xFileSize = [](sqlite3_file* f, sqlite3_int64* size) {
    return Under(f)->pMethods->xFileSize(Under(f), size);
  };
  methods.xLock = [](sqlite3_file* f, int lock) {
    return Under(f)->pMethods->xLock(Under(f), lock);
  };
  methods.xUnlock = [](sqlite3_file* f, int lock) {
    return Under(f)->pMethods->xUnlock(Under(f), lock);
  };
  methods.xCheckReservedLock = [](sqlite3_file* f, int* out) {
    return Under(f)->pMethods->xCheckReservedLock(Under(f), out);
  };
  methods.xFileControl = [](sqlite3_file* f, int what, void* with) {
    return Under(f)->pMethods->xFileControl(Under(f), what, with);
  };
  methods.xSectorSize = [](sqlite3_file* f) { return Under(f)->pMethods->xSectorSize(Under(f)); };
  methods.xDeviceCharacteristics = [](sqlite3_file* f) {
    return Under(f)->pMethods->xDeviceCharacteristics(Under(f));
  };
}

int Open(sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* out) {
  std::memset(file, 0, sizeof(File));
  const int opened = real->xOpen(real, name, Under(file), flags, out);
  if (opened == SQLITE_OK) file->pMethods = &methods;
  return opened;
}

}  // namespace

void FailingVfs::Register() {
  if (real != nullptr) return;
  real = sqlite3_vfs_find(nullptr);
  FillMethods();
  static sqlite3_vfs vfs = *real;
  vfs.zName = kName;
  vfs.szOsFile = static_cast<int>(sizeof(File)) + real->szOsFile;
  vfs.xOpen = Open;
  if (sqlite3_vfs_register(&vfs, 0) != SQLITE_OK) std::abort();
}

void FailingVfs::FailFrom(uint64_t operation) {
  count = 0;
  fail_from = operation;
}

uint64_t FailingVfs::operations() { return count; }

}  // namespace conductor::store
