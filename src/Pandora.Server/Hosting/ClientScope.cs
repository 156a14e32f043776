using System.Collections;

namespace Pandora.Server.Hosting;

/// <summary>
/// The client of a request, for its log lines: the address, and the fingerprint of the request's key (the first 8 hex digits of its
/// SHA-256).
/// </summary>
internal sealed class ClientScope(string address, string? key) : IReadOnlyList<KeyValuePair<string, object?>>
{
    public const string Client = "Client", Key = "KeyId";

    public int Count => key is null ? 1 : 2;

    public KeyValuePair<string, object?> this[int index] => index == 0 ? new(Client, address) : new(Key, key);

    public IEnumerator<KeyValuePair<string, object?>> GetEnumerator()
    {
        for (var i = 0; i < Count; i++)
        {
            yield return this[i];
        }
    }

    public override string ToString() => key is null ? $"{Client}:{address}" : $"{Client}:{address} {Key}:{key}";

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
