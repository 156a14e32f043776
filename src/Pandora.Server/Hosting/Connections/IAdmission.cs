namespace Pandora.Server.Hosting.Connections;

/// <summary>
/// What a connection learns of its requests. It is a feature of the connection, so each request on it has it; it is missing where no
/// connection is, such as in memory.
/// </summary>
internal interface IAdmission
{
    /// <summary>Whether a request on it was let pass.</summary>
    bool IsAdmitted { get; }

    /// <summary>A request has come, and nothing is known of it yet: it is the server's turn.</summary>
    void Begin();

    /// <summary>The request may pass: the connection is no longer closed in favour of others.</summary>
    void Admit();

    /// <summary>The request has been answered: unless it might pass, the connection waits for its client again.</summary>
    void End();
}
