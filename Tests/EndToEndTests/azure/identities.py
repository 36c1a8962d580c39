"""Who signs in without a secret: certificates of a client, and issuers whose tokens a client trusts. Made by openssl."""

import base64
import json
import os
import subprocess
import time
import uuid

ISSUER = "https://issuer.example/tenant"
SUBJECT = "system:serviceaccount:erp:cmcplan"
AUDIENCE = "api://AzureADTokenExchange"
OPENSSL_SECONDS = 60


def openssl(*arguments, data=None):
    return subprocess.run(["openssl", *arguments], input=data, check=True, capture_output=True,
                          timeout=OPENSSL_SECONDS).stdout


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Certificate:
    """Key and certificate as PEM in one file and as PFX under a password; `public` is what is registered."""

    password = "p4ss of the test"

    def __init__(self, directory, name):
        base = f"{directory}/{name}"
        self.pem, self.pfx, self.public = base + ".pem", base + ".pfx", base + "-public.pem"
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout",
                base + ".key", "-out", self.public)
        with open(self.pem, "wb") as file:
            for part in (base + ".key", self.public):
                with open(part, "rb") as source:
                    file.write(source.read())
        openssl("pkcs12", "-export", "-in", self.public, "-inkey", base + ".key", "-out", self.pfx, "-passout",
                "pass:" + self.password)


class Issuer:
    """Of OpenID Connect tokens, with the key set that it would publish."""

    def __init__(self, directory, name):
        self.key, self.keys = f"{directory}/{name}.key", f"{directory}/{name}.json"
        openssl("genrsa", "-out", self.key, "2048")
        modulus = openssl("rsa", "-in", self.key, "-noout", "-modulus").decode().strip().split("=")[1]
        with open(self.keys, "w") as file:
            json.dump({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k1", "e": "AQAB",
                                 "n": base64url(bytes.fromhex(modulus))}]}, file)

    def token(self, seconds=600, issuer=ISSUER, subject=SUBJECT, audience=AUDIENCE):
        """A new one that holds from now for so long; one that ended long ago where that is negative."""
        now = int(time.time())
        header = {"alg": "RS256", "typ": "JWT", "kid": "k1"}
        claims = {"iss": issuer, "sub": subject, "aud": audience, "jti": str(uuid.uuid4()), "iat": now - 3600,
                  "nbf": now - 3600, "exp": now + seconds}
        text = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
        return text + "." + base64url(openssl("dgst", "-sha256", "-sign", self.key, data=text.encode()))

    def write(self, path, **claims):
        """As whatever keeps a token file fresh does it: a reader never sees a part."""
        with open(path + ".new", "w") as file:
            file.write(self.token(**claims))
        os.replace(path + ".new", path)
        return path


def trusting(certificate, issuer):
    """Options of an emulator that knows both."""
    return ("--client-certificate", certificate.public, "--federated-credential",
            f"issuer={ISSUER},subject={SUBJECT},keys={issuer.keys}")
