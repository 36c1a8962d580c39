// OpenSSL with its macros as functions, and what would need callbacks or many steps through them.
#ifndef CMC_COPENSSL_SHIM_H
#define CMC_COPENSSL_SHIM_H
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <time.h>

// ---- contexts --------------------------------------------------------------------------------------------------
/// TLS 1.3 only; no tickets, cache, early data or renegotiation. Partial writes, so that a lock around SSL_write is held
/// for one record. Returns 1, or 0 with the error queue filled.
static inline int cmc_tls_restrict(SSL_CTX *context, const char *cipher_suites) {
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_num_tickets(context, 0) == 1 && SSL_CTX_set_max_early_data(context, 0) == 1 &&
         SSL_CTX_set_ciphersuites(context, cipher_suites) == 1 &&
         SSL_CTX_set1_groups_list(context, "X25519:P-256") == 1;
}
/// Both ends must show a certificate; `decide` alone says whether it will do (no chain is built).
static inline void cmc_tls_verify_with(SSL_CTX *context, int (*decide)(X509_STORE_CTX *, void *), void *argument) {
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
  SSL_CTX_set_cert_verify_callback(context, decide, argument);
}

/// Reads through a buffer of our own, so that a system call fetches many records. OpenSSL's own read-ahead would move all
/// that it holds to the front again for every record. Returns 1, or 0 with the error queue filled.
static inline int cmc_tls_attach(SSL *tls, int descriptor, size_t read_ahead_bytes) {
  BIO *buffer = BIO_new(BIO_f_buffer());
  BIO *reading = BIO_new_socket(descriptor, BIO_NOCLOSE);
  BIO *writing = BIO_new_socket(descriptor, BIO_NOCLOSE);
  if (buffer == NULL || reading == NULL || writing == NULL ||
      BIO_set_read_buffer_size(buffer, (long)read_ahead_bytes) != 1) {
    BIO_free(buffer);
    BIO_free(reading);
    BIO_free(writing);
    return 0;
  }
  SSL_set0_rbio(tls, BIO_push(buffer, reading));
  SSL_set0_wbio(tls, writing);
  return 1;
}
/// Whether bytes have arrived that poll does not know of: decrypted, or read ahead.
static inline int cmc_tls_has_bytes(SSL *tls) { return SSL_has_pending(tls) == 1 || BIO_pending(SSL_get_rbio(tls)) > 0; }

// ---- results ---------------------------------------------------------------------------------------------------
static inline unsigned long cmc_tls_first_error(void) { return ERR_peek_error(); }
static inline int cmc_tls_error_reason(unsigned long error) { return ERR_GET_REASON(error); }
static const int CMC_TLS_UNEXPECTED_EOF = SSL_R_UNEXPECTED_EOF_WHILE_READING;
static const int CMC_TLS_VERIFY_FAILED = SSL_R_CERTIFICATE_VERIFY_FAILED;
static const int CMC_TLS_NO_PEER_CERTIFICATE = SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE;
/// Reasons from here on are alerts of the peer: this plus the alert's number.
static const int CMC_TLS_ALERT_BASE = SSL_AD_REASON_OFFSET;

// ---- one step of the state machine: what SSL_get_error says, with errno taken before anything can change it --------
static inline int cmc_tls_outcome(SSL *tls, int result, int *system_error) {
  *system_error = errno;
  return SSL_get_error(tls, result);
}
static inline int cmc_tls_handshake(SSL *tls, int *system_error) {
  ERR_clear_error();
  errno = 0;
  int result = SSL_do_handshake(tls);
  return result == 1 ? SSL_ERROR_NONE : cmc_tls_outcome(tls, result, system_error);
}
static inline int cmc_tls_read(SSL *tls, void *buffer, size_t count, size_t *moved, int *system_error) {
  ERR_clear_error();
  errno = 0;
  int result = SSL_read_ex(tls, buffer, count, moved);
  return result == 1 ? SSL_ERROR_NONE : cmc_tls_outcome(tls, result, system_error);
}
static inline int cmc_tls_write(SSL *tls, const void *buffer, size_t count, size_t *moved, int *system_error) {
  ERR_clear_error();
  errno = 0;
  int result = SSL_write_ex(tls, buffer, count, moved);
  return result == 1 ? SSL_ERROR_NONE : cmc_tls_outcome(tls, result, system_error);
}

// ---- keys and certificates -------------------------------------------------------------------------------------
static inline EVP_PKEY *cmc_tls_make_key(void) { return EVP_EC_gen("P-256"); }

/// A self-signed certificate of `key` with no end of validity (RFC 5280 section 4.1.2.5); NULL on failure.
static inline X509 *cmc_tls_make_certificate(EVP_PKEY *key, const char *common_name) {
  X509 *certificate = X509_new();
  unsigned char serial[16];
  BIGNUM *number = NULL;
  int good = certificate != NULL && RAND_bytes(serial, sizeof serial) == 1;
  if (good) {
    serial[0] &= 0x7f;
    serial[0] |= 0x40;
    number = BN_bin2bn(serial, sizeof serial, NULL);
    X509_NAME *name = X509_get_subject_name(certificate);
    good = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL &&
           X509_set_version(certificate, X509_VERSION_3) == 1 &&
           ASN1_TIME_set_string(X509_getm_notBefore(certificate), "20200101000000Z") == 1 &&
           ASN1_TIME_set_string(X509_getm_notAfter(certificate), "99991231235959Z") == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0) == 1 &&
           X509_set_issuer_name(certificate, name) == 1 && X509_set_pubkey(certificate, key) == 1 &&
           X509_sign(certificate, key, EVP_sha256()) > 0;
  }
  BN_free(number);
  if (good) return certificate;
  X509_free(certificate);
  return NULL;
}
static inline BIO *cmc_tls_memory(void) { return BIO_new(BIO_s_mem()); }
static inline BIO *cmc_tls_memory_over(const void *bytes, int count) { return BIO_new_mem_buf(bytes, count); }
static inline size_t cmc_tls_memory_bytes(BIO *memory, const char **bytes) {
  char *start = NULL;
  long count = BIO_get_mem_data(memory, &start);
  *bytes = start;
  return count > 0 ? (size_t)count : 0;
}
/// Refuses to ask for a pass phrase on a terminal.
static inline int cmc_tls_no_password(char *buffer, int size, int writing, void *argument) {
  (void)buffer, (void)size, (void)writing, (void)argument;
  return -1;
}
static inline EVP_PKEY *cmc_tls_read_key(BIO *from) { return PEM_read_bio_PrivateKey(from, NULL, cmc_tls_no_password, NULL); }
static inline X509 *cmc_tls_read_certificate(BIO *from) { return PEM_read_bio_X509(from, NULL, cmc_tls_no_password, NULL); }
static inline int cmc_tls_write_key(BIO *to, EVP_PKEY *key) {
  return PEM_write_bio_PrivateKey(to, key, NULL, NULL, 0, NULL, NULL);
}
/// SHA-256 over the DER SubjectPublicKeyInfo; 1 on success.
static inline int cmc_tls_public_key_digest(X509 *certificate, unsigned char digest[32]) {
  unsigned char *encoded = NULL;
  int count = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &encoded);
  if (count <= 0) return 0;
  unsigned int length = 0;
  int result = EVP_Digest(encoded, (size_t)count, digest, &length, EVP_sha256(), NULL);
  OPENSSL_free(encoded);
  return result == 1 && length == 32;
}
// ---- signing with the key of a certificate ------------------------------------------------------------------------
/// Key and certificate of a file's bytes: PEM with both in it, or PKCS#12. `password` may be NULL. 1 on success; the caller
/// frees both. The certificate is the one that the key belongs to.
static inline int cmc_sign_read(const void *bytes, int count, const char *password, EVP_PKEY **key, X509 **certificate) {
  *key = NULL;
  *certificate = NULL;
  BIO *from = BIO_new_mem_buf(bytes, count);
  if (from == NULL) return 0;
  *key = PEM_read_bio_PrivateKey(from, NULL, password == NULL ? cmc_tls_no_password : NULL, (void *)password);
  BIO_free(from);
  if (*key != NULL) {
    from = BIO_new_mem_buf(bytes, count);
    X509 *next;
    while (from != NULL && (next = PEM_read_bio_X509(from, NULL, cmc_tls_no_password, NULL)) != NULL) {
      if (X509_check_private_key(next, *key) == 1) {
        *certificate = next;
        break;
      }
      X509_free(next);
    }
    BIO_free(from);
  } else {
    from = BIO_new_mem_buf(bytes, count);
    PKCS12 *box = from == NULL ? NULL : d2i_PKCS12_bio(from, NULL);
    BIO_free(from);
    if (box != NULL) PKCS12_parse(box, password == NULL ? "" : password, key, certificate, NULL);
    PKCS12_free(box);
  }
  ERR_clear_error();
  if (*key != NULL && *certificate != NULL) return 1;
  EVP_PKEY_free(*key);
  X509_free(*certificate);
  *key = NULL;
  *certificate = NULL;
  return 0;
}
static inline int cmc_sign_is_rsa(EVP_PKEY *key) { return EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA; }
/// SHA-256 over the DER certificate; 1 on success.
static inline int cmc_sign_thumbprint(X509 *certificate, unsigned char digest[32]) {
  unsigned int length = 0;
  return X509_digest(certificate, EVP_sha256(), digest, &length) == 1 && length == 32;
}
/// RSASSA-PSS with SHA-256 and a salt as long as the digest (RFC 7518 section 3.5, PS256). `signature` holds `*length`
/// bytes; 1 on success.
static inline int cmc_sign_ps256(EVP_PKEY *key, const void *bytes, size_t count, unsigned char *signature, size_t *length) {
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  EVP_PKEY_CTX *options = NULL;
  int good = context != NULL && EVP_DigestSignInit(context, &options, EVP_sha256(), NULL, key) == 1 &&
             EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) > 0 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_DIGEST) > 0 &&
             EVP_DigestSign(context, signature, length, bytes, count) == 1;
  EVP_MD_CTX_free(context);
  ERR_clear_error();
  return good;
}
/// Whether `signature` is that of an RSA key over these bytes with SHA-256: PS256 where `is_pss`, or else RS256.
static inline int cmc_sign_verify(EVP_PKEY *key, int is_pss, const void *bytes, size_t count,
                                  const unsigned char *signature, size_t length) {
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  EVP_PKEY_CTX *options = NULL;
  int good = key != NULL && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA && context != NULL &&
             EVP_DigestVerifyInit(context, &options, EVP_sha256(), NULL, key) == 1;
  if (good && is_pss) {
    good = EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) > 0 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_DIGEST) > 0;
  }
  good = good && EVP_DigestVerify(context, signature, length, bytes, count) == 1;
  EVP_MD_CTX_free(context);
  ERR_clear_error();
  return good;
}
/// SHA-1 over the DER certificate, by which older clients name it; 1 on success.
static inline int cmc_sign_old_thumbprint(X509 *certificate, unsigned char digest[20]) {
  unsigned int length = 0;
  return X509_digest(certificate, EVP_sha1(), digest, &length) == 1 && length == 20;
}
/// From when until when a certificate holds, in seconds since 1970; 1 on success.
static inline int cmc_sign_validity(X509 *certificate, long long *from, long long *until) {
  struct tm first, last;
  if (ASN1_TIME_to_tm(X509_get0_notBefore(certificate), &first) != 1 ||
      ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &last) != 1)
    return 0;
  *from = (long long)timegm(&first);
  *until = (long long)timegm(&last);
  return 1;
}
/// How many bytes the certificate has as DER, written to `bytes` where it isn't NULL.
static inline int cmc_sign_der(X509 *certificate, unsigned char *bytes) {
  return i2d_X509(certificate, bytes == NULL ? NULL : &bytes);
}
/// The public key of a certificate in DER, or NULL. The caller frees it.
static inline EVP_PKEY *cmc_sign_certified_key(const unsigned char *der, long count) {
  X509 *certificate = d2i_X509(NULL, &der, count);
  EVP_PKEY *key = certificate == NULL ? NULL : X509_get_pubkey(certificate);
  X509_free(certificate);
  ERR_clear_error();
  return key;
}
/// The RSA public key of a modulus and an exponent, big-endian (RFC 7518 section 6.3.1), or NULL. The caller frees it.
static inline EVP_PKEY *cmc_sign_public_key(const unsigned char *modulus, int modulus_count,
                                            const unsigned char *exponent, int exponent_count) {
  EVP_PKEY *key = NULL;
  BIGNUM *n = BN_bin2bn(modulus, modulus_count, NULL), *e = BN_bin2bn(exponent, exponent_count, NULL);
  OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
  OSSL_PARAM *parameters = NULL;
  EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
  if (n != NULL && e != NULL && builder != NULL && context != NULL &&
      OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
      OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) == 1 &&
      (parameters = OSSL_PARAM_BLD_to_param(builder)) != NULL && EVP_PKEY_fromdata_init(context) == 1)
    EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, parameters);
  EVP_PKEY_CTX_free(context);
  OSSL_PARAM_free(parameters);
  OSSL_PARAM_BLD_free(builder);
  BN_free(e);
  BN_free(n);
  ERR_clear_error();
  return key;
}
#endif
