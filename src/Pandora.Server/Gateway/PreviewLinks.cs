using System.Buffers.Binary;
using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using Pandora.Server.Auth;

namespace Pandora.Server.Gateway;

/// <summary>A link that opens a preview.</summary>
/// <param name="Token">Its token.</param>
/// <param name="Expires">When it expires.</param>
/// <param name="Key">The key that made it; null when the server needed none.</param>
internal sealed record PreviewLink(string Token, DateTimeOffset Expires, Key? Key);

/// <summary>
/// Signs and checks the tokens of links: an HMAC-SHA256 over a sandbox's id, a port, the time of expiry and the id of the key that made the
/// link. The server keeps nothing but the secret, which it makes at its first start. Links end when the secret's file is removed.
/// </summary>
internal sealed class PreviewLinks(AccessStore store, Access access, TimeProvider time) : IHostedService
{
    private const byte Version = 1;
    private const int SecretLength = 32, MacLength = HMACSHA256.HashSizeInBytes;

    // Version, port, expiry, and the length of the id.
    private const int HeadLength = 1 + 2 + 8 + 1;

    // Far more than an id of a sandbox and one of a key need.
    private const int MaxTokenLength = 512;

    private readonly SteadyClock _clock = new(time);
    private byte[] _secret = [];

    /// <summary>The time by which links expire. It never goes back.</summary>
    public DateTimeOffset Now => _clock.Now;

    /// <summary>Reads the secret, or makes it.</summary>
    /// <exception cref="AccessFileException">It could not be read or written.</exception>
    public Task StartAsync(CancellationToken cancellationToken)
    {
        byte[]? kept = null;
        try
        {
            kept = File.ReadAllBytes(store.PreviewKeyPath);
        }
        catch (FileNotFoundException)
        {
            // The first start.
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new AccessFileException($"{store.PreviewKeyPath} cannot be read: {e.Message}", e);
        }

        if (kept is not { Length: SecretLength })
        {
            kept = RandomNumberGenerator.GetBytes(SecretLength);
            AccessStore.Write(store.PreviewKeyPath, kept, mustLast: true);
        }

        _secret = kept;
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <summary>Makes the token of a link.</summary>
    /// <param name="id">The sandbox's id: at most 255 characters of ASCII.</param>
    /// <param name="port">The port.</param>
    /// <param name="expires">When it expires, in whole seconds.</param>
    /// <param name="keyId">Id of the key that makes it; null where none is needed.</param>
    public string Make(string id, int port, DateTimeOffset expires, string? keyId)
    {
        var (sandbox, key) = (Encoding.ASCII.GetBytes(id), Encoding.ASCII.GetBytes(keyId ?? ""));
        var token = new byte[HeadLength + sandbox.Length + key.Length + MacLength];
        token[0] = Version;
        BinaryPrimitives.WriteUInt16BigEndian(token.AsSpan(1), checked((ushort)port));
        BinaryPrimitives.WriteInt64BigEndian(token.AsSpan(3), expires.ToUnixTimeSeconds());
        token[HeadLength - 1] = checked((byte)sandbox.Length);
        sandbox.CopyTo(token, HeadLength);
        key.CopyTo(token, HeadLength + sandbox.Length);
        HMACSHA256.HashData(_secret, token.AsSpan(..^MacLength), token.AsSpan(token.Length - MacLength));
        return Base64Url.EncodeToString(token);
    }

    /// <summary>Finds the link of a token; null when it does not open this preview, has expired, or the key that made it has
    /// ended.</summary>
    public PreviewLink? Find(string token, PreviewHost host)
    {
        // Without the secret, which a server that has not started lacks, everybody could sign.
        if (_secret.Length != SecretLength || token.Length > MaxTokenLength || !Base64Url.IsValid(token))
        {
            return null;
        }

        var bytes = Base64Url.DecodeFromChars(token);
        if (bytes.Length < HeadLength + MacLength)
        {
            return null;
        }

        var payload = bytes.AsSpan(..^MacLength);
        if (!CryptographicOperations.FixedTimeEquals(HMACSHA256.HashData(_secret, payload), bytes.AsSpan(bytes.Length - MacLength)))
        {
            return null;
        }

        // What is signed was made by this class: its lengths are right. Another version may have another form.
        if (payload[0] != Version)
        {
            return null;
        }

        var expires = DateTimeOffset.FromUnixTimeSeconds(BinaryPrimitives.ReadInt64BigEndian(payload[3..]));
        var end = HeadLength + payload[HeadLength - 1];
        var (id, keyId) = (Encoding.ASCII.GetString(payload[HeadLength..end]), Encoding.ASCII.GetString(payload[end..]));
        if (BinaryPrimitives.ReadUInt16BigEndian(payload[1..]) != host.Port || id != host.Id || expires <= Now)
        {
            return null;
        }

        // The decoder skips white space, which must not come into a header.
        var written = Base64Url.EncodeToString(bytes);
        if (keyId.Length == 0)
        {
            return access.LetsIn(isForMetrics: false) ? new PreviewLink(written, expires, Key: null) : null;
        }

        return access.FindById(keyId) is { } key ? new PreviewLink(written, expires, key) : null;
    }
}
