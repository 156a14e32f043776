namespace Pandora.Server.Auth;

/// <summary>What a key may do.</summary>
internal enum KeyRole
{
    /// <summary>Everything, in all projects.</summary>
    Admin,

    /// <summary>The sandboxes of its project.</summary>
    User,

    /// <summary><c>/metrics</c>, and nothing else.</summary>
    Metrics,
}

/// <summary>Who sends a request. Each request has one; <see cref="ApiKeys"/> fills it in, or the gateway for a preview.</summary>
internal sealed class Caller
{
    /// <summary>Name of the project. A request without a key, where none is needed, belongs to the default one.</summary>
    public string Project { get; set; } = Engine.Projects.Project.DefaultName;

    /// <summary>What the caller may do. Where no key is needed, everybody may do everything.</summary>
    public KeyRole Role { get; set; } = KeyRole.Admin;

    /// <summary>Name of the key; null where no key is needed.</summary>
    public string? KeyName { get; set; }

    /// <summary>Id of the key: the first 8 hexadecimal digits of its SHA-256; null where no key is needed.</summary>
    public string? KeyId { get; set; }

    /// <summary>Makes the owner of a key the caller.</summary>
    public void Is(Key key) => (Project, Role, KeyName, KeyId) = (key.Entry.Project, key.Entry.Role, key.Entry.Name, key.Entry.Id);
}
