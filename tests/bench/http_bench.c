/* http_bench: closed-loop HTTP/1.1 load. Every connection repeats one request as soon as it has the whole reply.
 * One epoll thread. Replies need a Content-Length. Prints one JSON object.
 * Build: gcc -O2 -o http_bench http_bench.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "proc.h"

#define REPLY_HEAD 65536
typedef struct { int fd; size_t sent, have; long body_left; int in_body, status; double began; char head[REPLY_HEAD]; } conn_t;

static const char *method = "POST", *path = "/", *type = "application/json", *body_file = 0;
static int port = 3721, nconns = 64, pid = 0;
static double seconds = 2, warm_up = 0.5;
static long most = 0;
static char *request; static size_t request_len;
static long nreplies, nbad, nerrors;
static unsigned *hist;
#define BUCKETS 2000000 /* 1 us each */

static void die(const char *what) { perror(what); exit(1); }
static void prepare(void) {
  char *body = 0; size_t n = 0;
  if (body_file) {
    FILE *f = fopen(body_file, "rb"); if (!f) die(body_file);
    fseek(f, 0, SEEK_END); n = ftell(f); rewind(f); body = malloc(n + 1); if (fread(body, 1, n, f) != n) die(body_file); fclose(f);
  }
  request = malloc(n + 4096);
  int h = snprintf(request, 4096, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", method, path, port, type, n);
  if (n) memcpy(request + h, body, n);
  request_len = h + n;
}
static void dial(conn_t *c) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)}; int one = 1; to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  c->fd = socket(AF_INET, SOCK_STREAM, 0); if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); fcntl(c->fd, F_SETFL, O_NONBLOCK);
}
static void pump(int ep, conn_t *c) { /* send what is left of the request */
  while (c->sent < request_len) {
    ssize_t k = send(c->fd, request + c->sent, request_len - c->sent, MSG_NOSIGNAL);
    if (k < 0) { if (errno == EAGAIN) break; if (errno == EINTR) continue; nerrors++; return; }
    c->sent += k;
  }
  struct epoll_event ev = {.events = EPOLLIN | (c->sent < request_len ? EPOLLOUT : 0), .data.ptr = c}; epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
}
static void begin(int ep, conn_t *c) { c->sent = c->have = 0; c->in_body = 0; c->began = now_s(); pump(ep, c); }
static int absorb(conn_t *c, char *b, size_t n) { /* 1 = the reply is complete */
  if (!c->in_body) {
    size_t fits = c->have + n < REPLY_HEAD ? n : REPLY_HEAD - 1 - c->have; /* the head; the rest is only counted */
    memcpy(c->head + c->have, b, fits); c->head[c->have + fits] = 0; c->have += n;
    char *end = strstr(c->head, "\r\n\r\n"); if (!end) return 0;
    char *p = strcasestr(c->head, "content-length:"); if (!p || p > end) { nerrors++; return 1; }
    c->status = atoi(c->head + 9); c->body_left = atol(p + 15) - (long)(c->have - (end + 4 - c->head)); c->in_body = 1;
  } else c->body_left -= n;
  return c->body_left <= 0;
}
static double pct(double p) { long all = 0, acc = 0; for (long i = 0; i < BUCKETS; i++) all += hist[i]; for (long i = 0; i < BUCKETS; i++) { acc += hist[i]; if (all && acc >= p * all) return i; } return -1; }
int main(int c, char **v) {
  for (int i = 1; i < c; i++) {
#define A(n) (!strcmp(v[i], n) && i + 1 < c)
    if (A("--port")) port = atoi(v[++i]); else if (A("--path")) path = v[++i]; else if (A("--method")) method = v[++i]; else if (A("--type")) type = v[++i];
    else if (A("--body")) body_file = v[++i]; else if (A("--conns")) nconns = atoi(v[++i]); else if (A("--seconds")) seconds = atof(v[++i]);
    else if (A("--warm-up")) warm_up = atof(v[++i]); else if (A("--most")) most = atol(v[++i]); else if (A("--pid")) pid = atoi(v[++i]);
    else { fprintf(stderr, "http_bench --port P --path /p [--method M] [--type T] [--body FILE] [--conns N] [--seconds S] [--warm-up S] [--most REQUESTS] [--pid SERVER_PID]\n"); return 2; }
  }
  prepare(); hist = calloc(BUCKETS, sizeof *hist); conn_t *conns = calloc(nconns, sizeof *conns); int ep = epoll_create1(0);
  for (int i = 0; i < nconns; i++) { dial(conns + i); struct epoll_event ev = {.events = EPOLLIN, .data.ptr = conns + i}; epoll_ctl(ep, EPOLL_CTL_ADD, conns[i].fd, &ev); begin(ep, conns + i); }
  static char buf[1 << 18]; struct epoll_event evs[256]; double t0 = now_s(), start = t0, cpu0 = 0, cpu1 = 0; long rss; int measuring = 0;
  if (warm_up <= 0) { measuring = 1; proc_tree(pid, &cpu0, &rss); }
  for (;;) {
    int n = epoll_wait(ep, evs, 256, 20); double now = now_s();
    if (!measuring && now - t0 > warm_up) { measuring = 1; start = now; nreplies = nbad = 0; memset(hist, 0, BUCKETS * sizeof *hist); proc_tree(pid, &cpu0, &rss); }
    if (measuring && (now - start > seconds || (most && nreplies >= most)) ) break;
    if (nerrors > 100) break;
    for (int i = 0; i < n; i++) { conn_t *k = evs[i].data.ptr;
      if (evs[i].events & EPOLLOUT) pump(ep, k);
      if (!(evs[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
      ssize_t got = recv(k->fd, buf, sizeof buf, 0);
      if (got <= 0) { if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue; nerrors++; close(k->fd); dial(k); struct epoll_event ev = {.events = EPOLLIN, .data.ptr = k}; epoll_ctl(ep, EPOLL_CTL_ADD, k->fd, &ev); begin(ep, k); continue; }
      if (absorb(k, buf, got)) { long us = (now_s() - k->began) * 1e6; hist[us < 0 ? 0 : us >= BUCKETS ? BUCKETS - 1 : us]++; nreplies++; if (k->status / 100 != 2) nbad++; begin(ep, k); } }
  }
  double span = now_s() - start; proc_tree(pid, &cpu1, &rss); struct rusage ru; getrusage(RUSAGE_SELF, &ru);
  printf("{\"conns\":%d,\"requests\":%ld,\"elapsed_s\":%.3f,\"requests_per_s\":%.1f,\"p50_us\":%.0f,\"p95_us\":%.0f,\"p99_us\":%.0f,\"bad_replies\":%ld,\"errors\":%ld,\"server_cpu_s\":%.4f,\"cpu_us_per_request\":%.2f,\"rss_kib_end\":%ld,\"client_cpu_s\":%.2f}\n",
         nconns, nreplies, span, nreplies / span, pct(.5), pct(.95), pct(.99), nbad, nerrors, cpu1 - cpu0, nreplies ? (cpu1 - cpu0) * 1e6 / nreplies : 0, rss, ru.ru_utime.tv_sec + ru.ru_stime.tv_sec + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6);
  return nbad || nerrors || !nreplies ? 3 : 0;
}
