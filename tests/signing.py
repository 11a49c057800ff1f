"""Files with content credentials: signed with keys that are made here and thrown away."""

import datetime
import io

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
ACTIONS = (
    {"action": "c2pa.created", "digitalSourceType": f"{SOURCES}trainedAlgorithmicMedia"},
    {"action": "c2pa.color_adjustments", "softwareAgent": {"name": "Brush", "version": "3"}},
)
_USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def chain(company, revocation=None):
    """PEM files of certificates, the signer's first, and of its key.

    The signer's names an address for its revocation if one is given.
    """
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    own, root = (x509.SubjectKeyIdentifier.from_public_key(key.public_key()) for key in keys)
    names = [
        x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, common),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            ]
        )
        for common, organisation in (("Camera 7", company), ("Root", "Tests"))
    ]

    def certificate(of, identifier, critical, others):
        now = datetime.datetime.now(datetime.UTC)
        made = x509.CertificateBuilder(
            names[1], names[of], keys[of].public_key(), x509.random_serial_number()
        )
        made = made.not_valid_before(now - datetime.timedelta(days=1))
        made = made.not_valid_after(now + datetime.timedelta(days=1))
        made = made.add_extension(identifier, critical=False)
        for extension in critical:
            made = made.add_extension(extension, critical=True)
        for extension in others:
            made = made.add_extension(extension, critical=False)
        return made.sign(keys[1], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def uses(*names):
        return x509.KeyUsage(**{name: name in names for name in _USES})

    others = [
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]),
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root),
    ]
    if revocation is not None:
        at = x509.UniformResourceIdentifier(revocation)
        described = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, at)
        others.append(x509.AuthorityInformationAccess([described]))
    leaf = [x509.BasicConstraints(False, None), uses("digital_signature")]
    authority = [x509.BasicConstraints(True, None), uses("key_cert_sign", "crl_sign")]
    pem = certificate(0, own, leaf, others) + certificate(1, root, authority, ())
    key = keys[0].private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem, key


def signed(data, kind, *, company="Cameras Ltd", tool="Paint", remote=None, revocation=None):
    """A file's bytes with content credentials.

    Args:
      data: Bytes of the file.
      kind: Its media type.
      company: Organisation that the certificate names.
      tool: Software that the credentials name.
      remote: Address at which they are said to be; they are not in the file then.
      revocation: Address that the certificate names for its revocation.
    """
    signer = c2pa.Signer.from_info(
        c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, *chain(company, revocation), None)
    )
    manifest = {
        "claim_generator_info": [{"name": tool, "version": "1.2"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": list(ACTIONS)}}],
    }
    settings = {
        "builder": {"thumbnail": {"enabled": False}},
        "verify": {"verify_after_sign": False},
    }
    out = io.BytesIO()
    with (
        c2pa.Context.from_dict(settings) as context,
        c2pa.Builder(manifest, context=context) as builder,
    ):
        if remote is not None:
            builder.set_no_embed()
            builder.set_remote_url(remote)
        builder.sign(signer, kind, io.BytesIO(data), out)
    return out.getvalue()
