// The least that any copy over TLS costs: two connections, TLS 1.3 with AES-128-GCM, the same 64 KiB over and over, both ends
// on this machine. Prints seconds and CPU-seconds. Usage: tlspush BYTES
#include <arpa/inet.h>
#include <openssl/ec.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { lanes = 2, piece = 64 << 10 };
static long long bytes_a_lane;
static SSL_CTX *context;
static struct sockaddr_in address;

static void require(int holds, const char *what) {
  if (!holds) {
    perror(what);
    exit(1);
  }
}

static void *receive(void *argument) {
  SSL *tls = SSL_new(context);
  char *buffer = malloc(piece);
  SSL_set_fd(tls, (int)(long)argument);
  require(SSL_accept(tls) == 1, "accept TLS");
  long long left = bytes_a_lane;
  while (left > 0) {
    int count = SSL_read(tls, buffer, piece);
    require(count > 0, "read");
    left -= count;
  }
  SSL_write(tls, "x", 1);
  return NULL;
}

static void *push(void *argument) {
  (void)argument;
  int socket_number = socket(AF_INET, SOCK_STREAM, 0);
  require(connect(socket_number, (struct sockaddr *)&address, sizeof address) == 0, "connect");
  SSL *tls = SSL_new(context);
  SSL_set_fd(tls, socket_number);
  require(SSL_connect(tls) == 1, "connect TLS");
  char *buffer = calloc(1, piece), end;
  for (long long left = bytes_a_lane; left > 0; left -= piece) require(SSL_write(tls, buffer, piece) == piece, "write");
  require(SSL_read(tls, &end, 1) == 1, "the end");
  return NULL;
}

static void run(void *(*body)(void *), long arguments[]) {
  pthread_t threads[lanes];
  for (int lane = 0; lane < lanes; lane++) pthread_create(&threads[lane], NULL, body, (void *)arguments[lane]);
  for (int lane = 0; lane < lanes; lane++) pthread_join(threads[lane], NULL);
}

static double cpu(int who) {
  struct rusage usage;
  getrusage(who, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int main(int count, char **arguments) {
  require(count == 2, "usage: tlspush BYTES");
  bytes_a_lane = atoll(arguments[1]) / lanes / piece * piece;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  socklen_t length = sizeof address;
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  require(bind(listener, (struct sockaddr *)&address, length) == 0 && listen(listener, lanes) == 0, "listen");
  getsockname(listener, (struct sockaddr *)&address, &length);
  long none[lanes] = {0};
  struct timespec start, end;
  clock_gettime(CLOCK_MONOTONIC, &start);
  pid_t child = fork();
  context = SSL_CTX_new(TLS_method());
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
  if (child == 0) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_sign(certificate, key, EVP_sha256());
    SSL_CTX_use_certificate(context, certificate);
    SSL_CTX_use_PrivateKey(context, key);
    long sockets[lanes];
    for (int lane = 0; lane < lanes; lane++) sockets[lane] = accept(listener, NULL, NULL);
    run(receive, sockets);
    _exit(0);
  }
  run(push, none);
  int status = 1;
  waitpid(child, &status, 0);
  clock_gettime(CLOCK_MONOTONIC, &end);
  printf("%.4f %.4f\n", end.tv_sec - start.tv_sec + (end.tv_nsec - start.tv_nsec) / 1e9,
         cpu(RUSAGE_SELF) + cpu(RUSAGE_CHILDREN));
  return status;
}
