/* A process and its descendants: CPU seconds and resident memory (KiB), from the operating system's accounting.
 * CPU time comes from the scheduler in nanoseconds, per thread; where it is not kept, from /proc/PID/stat in ticks.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now_s(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }

static double thread_cpu(int pid) {
  char name[64]; snprintf(name, sizeof name, "/proc/%d/task", pid); DIR *d = opendir(name); if (!d) return -1;
  struct dirent *e; double sum = 0; int found = 0;
  while ((e = readdir(d))) {
    if (e->d_name[0] == '.') continue;
    char f[400]; snprintf(f, sizeof f, "/proc/%d/task/%s/schedstat", pid, e->d_name); FILE *fp = fopen(f, "r"); if (!fp) continue;
    unsigned long long ns; if (fscanf(fp, "%llu", &ns) == 1) { sum += ns / 1e9; found = 1; } fclose(fp);
  }
  closedir(d); return found ? sum : -1;
}
static int parent_of(int pid, double *cpu, long *rss) { /* and what the process itself has used; -1 = gone */
  char f[64], b[2048]; snprintf(f, sizeof f, "/proc/%d/stat", pid); FILE *fp = fopen(f, "r"); if (!fp) return -1;
  size_t n = fread(b, 1, sizeof b - 1, fp); fclose(fp); b[n] = 0; char *c = strrchr(b, ')'); if (!c) return -1;
  int parent; unsigned long ut, st; long rs; char s;
  if (sscanf(c + 2, "%c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d %*u %*u %ld", &s, &parent, &ut, &st, &rs) < 5) return -1;
  *cpu = (double)(ut + st) / sysconf(_SC_CLK_TCK); *rss = rs * (sysconf(_SC_PAGESIZE) / 1024); return parent;
}
static void proc_tree(int root, double *cpu, long *rss) {
  static int ids[65536], parents[65536]; static double cs[65536]; static long rs[65536]; int n = 0;
  *cpu = 0; *rss = 0; if (!root) return;
  DIR *d = opendir("/proc"); struct dirent *e;
  while ((e = readdir(d)) && n < 65536) { int p = atoi(e->d_name); if (p <= 0) continue; parents[n] = parent_of(p, &cs[n], &rs[n]); if (parents[n] >= 0) ids[n++] = p; }
  closedir(d);
  for (int i = 0; i < n; i++) {
    int p = ids[i], up = parents[i], hit = p == root, depth = 0;
    while (!hit && up > 1 && depth++ < 32) { if (up == root) { hit = 1; break; } int k = -1; for (int j = 0; j < n; j++) if (ids[j] == up) { k = j; break; } if (k < 0) break; up = parents[k]; }
    if (hit) { double exact = thread_cpu(p); *cpu += exact >= 0 ? exact : cs[i]; *rss += rs[i]; }
  }
}
