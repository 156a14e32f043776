using System.Collections;
using System.Net;
using Pandora.Server.Auth;

namespace Pandora.Server.Hosting;

/// <summary>Who sends a request, for its log lines and its lines in the audit. What is not known is left out.</summary>
internal sealed class ClientScope : IReadOnlyList<KeyValuePair<string, object?>>
{
    /// <summary>Names of the members: the address; the name and the id of the key; the project.</summary>
    public const string ClientName = "Client", KeyName = "Key", KeyIdName = "KeyId", ProjectName = "Project";

    private readonly List<KeyValuePair<string, object?>> _members = new(4);

    /// <param name="address">Address of the client, or of the proxy before the server.</param>
    /// <param name="caller">The caller, whose project is known by now.</param>
    public ClientScope(IPAddress? address, Caller caller)
    {
        (Address, Key, KeyId, Project) = (address?.ToString(), caller.KeyName, caller.KeyId, caller.Project);
        Add(ClientName, Address);
        Add(KeyName, Key);
        Add(KeyIdName, KeyId);
        Add(ProjectName, Project);
    }

    /// <summary>Address of the client; null when it is not known.</summary>
    public string? Address { get; }

    /// <summary>Name of the request's key; null without one.</summary>
    public string? Key { get; }

    /// <summary>Id of the request's key; null without one.</summary>
    public string? KeyId { get; }

    /// <summary>Project of the request.</summary>
    public string Project { get; }

    /// <inheritdoc/>
    public int Count => _members.Count;

    /// <inheritdoc/>
    public KeyValuePair<string, object?> this[int index] => _members[index];

    /// <inheritdoc/>
    public IEnumerator<KeyValuePair<string, object?>> GetEnumerator() => _members.GetEnumerator();

    /// <inheritdoc/>
    public override string ToString() => string.Join(' ', _members.Select(m => $"{m.Key}:{m.Value}"));

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    private void Add(string name, string? value)
    {
        if (value is not null)
        {
            _members.Add(new(name, value));
        }
    }
}
