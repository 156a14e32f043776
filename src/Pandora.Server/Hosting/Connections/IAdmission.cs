namespace Pandora.Server.Hosting.Connections;

/// <summary>
/// What a connection is told of its requests. It is a feature of the connection, so each request on it has it; it is missing where no
/// connection is, such as in memory.
/// </summary>
internal interface IAdmission
{
    /// <summary>
    /// A request has come, and nothing is known of it yet: from here on the connection is again one that waits for its client.
    /// </summary>
    void Begin();

    /// <summary>The request may pass: the connection is no longer closed in favour of others.</summary>
    void Admit();
}
