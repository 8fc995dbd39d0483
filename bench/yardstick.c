/* The least that a target can do: one epoll thread, the page cache, one send for all answers of a
 * turn. It answers login, INQUIRY, READ CAPACITY, TEST UNIT READY, READ and WRITE and nothing else,
 * checks next to nothing and believes its initiator. It is what lund is measured against, never
 * something to store data with.
 *
 *     yardstick IMAGE        prints its port on 127.0.0.1, serves until it is killed
 *
 * Blocks have 512 bytes, any target name and LUN will do, digests are refused. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BHS = 48, BLOCK = 512, SEGMENT = 256 << 10, BURST = 1 << 20, TASKS = 256, WINDOW = 128 };
enum { RECEIVE = SEGMENT + 4096, MAX_PENDING = 4 << 20 };

struct task { /* a WRITE whose data is coming */
  int used;
  uint32_t tag, length, received, r2t_sn, burst_end;
  uint64_t offset;
};

struct connection {
  int fd, waits_to_send;
  uint32_t stat_sn, exp_cmd_sn, segment; /* segment: what the initiator takes */
  uint8_t *in, *out;
  size_t in_length, out_start, out_length, out_room;
  struct task tasks[TASKS];
};

static int image, poller;
static uint64_t blocks;

static void die(const char *what) { perror(what); exit(1); }
static uint32_t get32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return be32toh(v); }
static uint64_t get64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return be64toh(v); }
static void put32(uint8_t *p, uint32_t v) { v = htobe32(v); memcpy(p, &v, 4); }
static void put64(uint8_t *p, uint64_t v) { v = htobe64(v); memcpy(p, &v, 8); }
static size_t padded(size_t n) { return (n + 3) & ~(size_t)3; }

/* Room at the end of what is to be sent. */
static uint8_t *reserve(struct connection *c, size_t n) {
  if (c->out_start == c->out_length) c->out_start = c->out_length = 0;
  if (c->out_length + n > c->out_room) {
    c->out_room = (c->out_length + n) * 2;
    if (!(c->out = realloc(c->out, c->out_room))) die("realloc");
  }
  uint8_t *p = c->out + c->out_length;
  c->out_length += n;
  return p;
}

/* A header with the numbers that all answers carry. */
static uint8_t *answer(struct connection *c, uint8_t opcode, uint8_t flags, uint32_t tag, size_t data, int status) {
  uint8_t *p = reserve(c, BHS + padded(data));
  memset(p, 0, BHS);
  p[0] = opcode;
  p[1] = flags;
  put32(p + 4, (uint32_t)data);
  put32(p + 16, tag);
  put32(p + 24, status ? c->stat_sn++ : c->stat_sn);
  put32(p + 28, c->exp_cmd_sn);
  put32(p + 32, c->exp_cmd_sn + WINDOW - 1);
  return p;
}

static void good(struct connection *c, uint32_t tag) {
  answer(c, 0x21, 0x80, tag, 0, 1);
}

static void invalid(struct connection *c, uint32_t tag) {
  uint8_t *p = answer(c, 0x21, 0x80, tag, 20, 1);
  p[3] = 2; /* CHECK CONDITION, INVALID COMMAND OPERATION CODE */
  memset(p + BHS, 0, 20);
  p[BHS + 1] = 18; p[BHS + 2] = 0x70; p[BHS + 4] = 5; p[BHS + 9] = 10; p[BHS + 14] = 0x20;
}

/* Data that fits one PDU, cut to what the initiator expects. */
static void data_in(struct connection *c, const uint8_t *bhs, const uint8_t *data, uint32_t length) {
  uint32_t expected = get32(bhs + 20), n = length < expected ? length : expected;
  uint8_t *p = answer(c, 0x25, 0x81 | (n < expected ? 2 : 0), get32(bhs + 16), n, 1);
  put32(p + 20, 0xffffffff);
  put32(p + 44, expected - n);
  memcpy(p + BHS, data, n);
}

static void read_blocks(struct connection *c, const uint8_t *bhs, uint64_t lba, uint32_t count) {
  uint32_t tag = get32(bhs + 16), length = count * BLOCK, done = 0, sn = 0;
  while (done < length) {
    uint32_t n = length - done < c->segment ? length - done : c->segment;
    int last = done + n == length;
    uint8_t *p = answer(c, 0x25, last ? 0x81 : 0, tag, n, last);
    put32(p + 20, 0xffffffff);
    put32(p + 36, sn++);
    put32(p + 40, done);
    if (pread(image, p + BHS, n, (off_t)(lba * BLOCK + done)) != (ssize_t)n) die("pread");
    done += n;
  }
}

/* Asks for the next burst, or says that the WRITE is done. */
static void go_on(struct connection *c, struct task *t, const uint8_t *lun) {
  if (t->received == t->length) {
    t->used = 0;
    good(c, t->tag);
    return;
  }
  uint32_t n = t->length - t->received < BURST ? t->length - t->received : BURST;
  uint8_t *p = answer(c, 0x31, 0x80, t->tag, 0, 0);
  memcpy(p + 8, lun, 8);
  put32(p + 20, (uint32_t)(t - c->tasks));
  put32(p + 36, t->r2t_sn++);
  put32(p + 40, t->received);
  put32(p + 44, n);
  t->burst_end = t->received + n;
}

static void put_data(const uint8_t *data, size_t n, uint64_t offset) {
  if (n && pwrite(image, data, n, (off_t)offset) != (ssize_t)n) die("pwrite");
}

static void write_blocks(struct connection *c, const uint8_t *bhs, const uint8_t *data, size_t n, uint64_t lba, uint32_t count) {
  put_data(data, n, lba * BLOCK);
  if (n == (size_t)count * BLOCK) {
    good(c, get32(bhs + 16));
    return;
  }
  for (struct task *t = c->tasks; t < c->tasks + TASKS; t++) {
    if (t->used) continue;
    *t = (struct task){.used = 1, .tag = get32(bhs + 16), .length = count * BLOCK,
                       .received = (uint32_t)n, .offset = lba * BLOCK};
    go_on(c, t, bhs + 8);
    return;
  }
  fprintf(stderr, "more tasks than the window allows\n");
  exit(1);
}

static void data_out(struct connection *c, const uint8_t *bhs, const uint8_t *data, size_t n) {
  uint32_t number = get32(bhs + 20);
  struct task *t = number < TASKS ? &c->tasks[number] : NULL;
  if (!t || !t->used) { fprintf(stderr, "data for no task\n"); exit(1); }
  put_data(data, n, t->offset + get32(bhs + 40));
  t->received += (uint32_t)n;
  if (bhs[1] & 0x80) go_on(c, t, bhs + 8);
}

static void command(struct connection *c, const uint8_t *bhs, const uint8_t *data, size_t n) {
  const uint8_t *cdb = bhs + 32;
  uint8_t reply[96] = {0};
  c->exp_cmd_sn++;
  switch (cdb[0]) {
    case 0x00: good(c, get32(bhs + 16)); break;
    case 0x12:
      reply[2] = 6; reply[3] = 2; reply[4] = 31; reply[7] = 2;
      memset(reply + 8, ' ', 28);
      memcpy(reply + 8, "BENCH", 5);
      memcpy(reply + 16, "YARDSTICK", 9);
      data_in(c, bhs, reply, 36 < cdb[4] ? 36 : cdb[4]);
      break;
    case 0x25:
      put32(reply, blocks - 1 > 0xffffffff ? 0xffffffff : (uint32_t)(blocks - 1));
      put32(reply + 4, BLOCK);
      data_in(c, bhs, reply, 8);
      break;
    case 0x9e:
      put64(reply, blocks - 1);
      put32(reply + 8, BLOCK);
      data_in(c, bhs, reply, 32);
      break;
    case 0x28: read_blocks(c, bhs, get32(cdb + 2), (uint32_t)cdb[7] << 8 | cdb[8]); break;
    case 0x88: read_blocks(c, bhs, get64(cdb + 2), get32(cdb + 10)); break;
    case 0x2a: write_blocks(c, bhs, data, n, get32(cdb + 2), (uint32_t)cdb[7] << 8 | cdb[8]); break;
    case 0x8a: write_blocks(c, bhs, data, n, get64(cdb + 2), get32(cdb + 10)); break;
    default: invalid(c, get32(bhs + 16));
  }
}

/* Everything the initiator wants to know at once, whatever it said. */
static void login(struct connection *c, const uint8_t *bhs, const uint8_t *data, size_t n) {
  static const char security[] = "AuthMethod=None";
  static const char parameters[] =
      "HeaderDigest=None\0DataDigest=None\0MaxRecvDataSegmentLength=262144\0InitialR2T=No\0"
      "ImmediateData=Yes\0MaxBurstLength=1048576\0FirstBurstLength=262144\0MaxConnections=1\0"
      "MaxOutstandingR2T=1\0DefaultTime2Wait=2\0DefaultTime2Retain=0\0DataPDUInOrder=Yes\0"
      "DataSequenceInOrder=Yes\0ErrorRecoveryLevel=0";
  static const char key[] = "MaxRecvDataSegmentLength=";
  int operational = (bhs[1] >> 2 & 3) == 1;
  const uint8_t *found = memmem(data, n, key, sizeof key - 1);
  if (found) c->segment = (uint32_t)strtoul((const char *)found + sizeof key - 1, NULL, 10) & ~3u;
  if (c->segment > SEGMENT) c->segment = SEGMENT;
  c->exp_cmd_sn = get32(bhs + 24);
  size_t length = operational ? sizeof parameters : sizeof security;
  uint8_t *p = answer(c, 0x23, bhs[1], get32(bhs + 16), length, 1);
  memcpy(p + 8, bhs + 8, 6);
  p[15] = 1;
  memcpy(p + BHS, operational ? parameters : security, length);
}

/* Handles one PDU; false when the connection is over. */
static int handle(struct connection *c, const uint8_t *bhs, const uint8_t *data, size_t n) {
  switch (bhs[0] & 0x3f) {
    case 0x00:
      if (get32(bhs + 16) != 0xffffffff) put32(answer(c, 0x20, 0x80, get32(bhs + 16), 0, 1) + 20, 0xffffffff);
      return 1;
    case 0x01: command(c, bhs, data, n); return 1;
    case 0x03: login(c, bhs, data, n); return 1;
    case 0x05: data_out(c, bhs, data, n); return 1;
    case 0x06: answer(c, 0x26, 0x80, get32(bhs + 16), 0, 1); return 1;
    default: return 0;
  }
}

/* Sends what there is; false when the connection is over. */
static int flush(struct connection *c) {
  while (c->out_start < c->out_length) {
    ssize_t n = send(c->fd, c->out + c->out_start, c->out_length - c->out_start, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) return 0;
    if (n < 0) break;
    c->out_start += (size_t)n;
  }
  int waits = c->out_start < c->out_length;
  if (waits != c->waits_to_send) {
    struct epoll_event e = {.events = waits ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e)) die("epoll_ctl");
    c->waits_to_send = waits;
  }
  return 1;
}

/* One turn: what is there, every whole PDU of it, all answers. */
static int turn(struct connection *c) {
  if (!flush(c)) return 0;
  if (c->out_length - c->out_start > MAX_PENDING) return 1;
  ssize_t got = recv(c->fd, c->in + c->in_length, RECEIVE - c->in_length, 0);
  if (got == 0 || (got < 0 && errno != EAGAIN)) return 0;
  if (got > 0) c->in_length += (size_t)got;
  size_t at = 0;
  while (c->in_length - at >= BHS) {
    const uint8_t *bhs = c->in + at;
    size_t n = get32(bhs + 4) & 0xffffff, total = BHS + bhs[4] * 4u + padded(n);
    if (total > RECEIVE) return 0;
    if (c->in_length - at < total) break;
    if (!handle(c, bhs, bhs + BHS + bhs[4] * 4u, n)) return 0;
    at += total;
  }
  memmove(c->in, c->in + at, c->in_length - at);
  c->in_length -= at;
  return flush(c);
}

static void come_in(int listener) {
  int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct connection *c = calloc(1, sizeof *c);
  if (!c || !(c->in = malloc(RECEIVE))) die("malloc");
  c->fd = fd;
  c->segment = 8192;
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
  if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
}

int main(int argc, char **argv) {
  struct stat stat;
  if (argc != 2) { fprintf(stderr, "usage: yardstick IMAGE\n"); return 2; }
  if ((image = open(argv[1], O_RDWR | O_CLOEXEC)) < 0 || fstat(image, &stat)) die(argv[1]);
  blocks = (uint64_t)stat.st_size / BLOCK;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listener < 0 || bind(listener, (void *)&address, length) || listen(listener, 128) ||
      getsockname(listener, (void *)&address, &length))
    die("listen");
  poller = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, events[64];
  if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e)) die("epoll");
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  for (;;) {
    int n = epoll_wait(poller, events, 64, -1);
    for (int i = 0; i < n; i++) {
      struct connection *c = events[i].data.ptr;
      if (!c) { come_in(listener); continue; }
      if (!turn(c)) { close(c->fd); free(c->in); free(c->out); free(c); }
    }
  }
}
