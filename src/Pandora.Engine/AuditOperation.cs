namespace Pandora.Engine;

/// <summary>The operations that the audit records. Reading a state, as in a list, is not recorded.</summary>
public enum AuditOperation
{
    /// <summary>Create a sandbox.</summary>
    Create,

    /// <summary>Run a command in a sandbox, to its end.</summary>
    Exec,

    /// <summary>Start a process in the background.</summary>
    ProcessStart,

    /// <summary>Write to a process's input, or end it.</summary>
    ProcessInput,

    /// <summary>Send a signal to a process.</summary>
    ProcessSignal,

    /// <summary>Read a process's output, or attach to the process, to the end of the reading.</summary>
    ProcessAttach,

    /// <summary>Read a file, or pack a directory into an archive, to the end of the reading.</summary>
    FileRead,

    /// <summary>Write a file, or unpack an archive into a directory.</summary>
    FileWrite,

    /// <summary>Delete, move or copy files, or make a directory.</summary>
    FileChange,

    /// <summary>Watch a directory, to the end of the watch.</summary>
    FileWatch,

    /// <summary>Connect to a port, to the end of the connection.</summary>
    PortConnect,

    /// <summary>Set whether previews of a port need a key or a link.</summary>
    PortPublic,

    /// <summary>Make a link to the preview of a port.</summary>
    PortLink,

    /// <summary>Connect to the SSH server, to the end of the connection.</summary>
    Ssh,

    /// <summary>Set the keys that may log in by SSH.</summary>
    SshKeys,

    /// <summary>Restart a sandbox's idle timeout.</summary>
    Keepalive,

    /// <summary>Set what a sandbox's guest may reach.</summary>
    Egress,

    /// <summary>End a sandbox because its client asked for it.</summary>
    Delete,

    /// <summary>End a sandbox for another reason. The server itself does it, for no client.</summary>
    End,
}
