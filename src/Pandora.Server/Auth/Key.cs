using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;

namespace Pandora.Server.Auth;

/// <summary>A key that this server accepts.</summary>
[SuppressMessage("Design", "CA1001", Justification = "The token of _revoked is read after the key ended; nothing to free")]
internal sealed class Key
{
    /// <summary>Number of characters of an id.</summary>
    public const int IdLength = 8;

    /// <summary>Least number of characters of a key of the settings.</summary>
    public const int LeastLength = 16;

    private const string Prefix = "pnd_", E2bPrefix = "e2b_";
    private const int RandomBytes = 20;
    private readonly CancellationTokenSource _revoked = new();
    private readonly byte[] _hash;
    private long _lastUse;

    /// <param name="entry">The key's facts, with its hash.</param>
    public Key(KeyEntry entry)
    {
        Entry = entry;
        _hash = Convert.FromHexString(entry.Hash);
    }

    /// <summary>The key's facts.</summary>
    public KeyEntry Entry { get; }

    /// <summary>Cancelled when the key is revoked or has expired: the requests that it began end.</summary>
    public CancellationToken Revoked => _revoked.Token;

    /// <summary>When it was last used; null when that is not known.</summary>
    public DateTimeOffset? LastUse
    {
        get => Interlocked.Read(ref _lastUse) is > 0 and var ticks ? new DateTimeOffset(ticks, TimeSpan.Zero) : null;
        set => Interlocked.Exchange(ref _lastUse, value?.UtcTicks ?? 0);
    }

    /// <summary>Whether a key with this hash is this one. Takes the same time for each hash.</summary>
    public bool Is(ReadOnlySpan<byte> hash) => CryptographicOperations.FixedTimeEquals(hash, _hash);

    /// <summary>Ends the key.</summary>
    public void Revoke() => _ = _revoked.CancelAsync();

    /// <summary>The hash by which a key is known: SHA-256.</summary>
    public static byte[] HashOf(string key) => SHA256.HashData(Encoding.UTF8.GetBytes(key));

    /// <summary>The facts of a key of the settings, or of the host's command line.</summary>
    public static Key Of(string key, string name, KeyRole role)
    {
        var hash = Convert.ToHexStringLower(HashOf(key));
        return new Key(new KeyEntry(hash[..IdLength], name, Engine.Projects.Project.DefaultName, role, hash, DateTimeOffset.UnixEpoch));
    }

    /// <summary>Makes a new key.</summary>
    /// <param name="isE2b">Whether it has the form that E2B's clients demand.</param>
    public static string Create(bool isE2b) =>
        (isE2b ? E2bPrefix : Prefix) + Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(RandomBytes));

    /// <summary>Whether a text begins as the keys that <see cref="Create"/> makes.</summary>
    public static bool HasMadeForm(string text) =>
        text.StartsWith(Prefix, StringComparison.Ordinal) || text.StartsWith(E2bPrefix, StringComparison.Ordinal);
}
