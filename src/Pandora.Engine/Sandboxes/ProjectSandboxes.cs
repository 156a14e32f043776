using Pandora.Engine.Projects;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// The sandboxes that a caller may see: those of its project, or all of them for an administrator. Front ends have no other way to a
/// sandbox. A sandbox of another project is answered like one that does not exist.
/// </summary>
/// <param name="registry">All sandboxes of the node.</param>
/// <param name="project">Name of the caller's project, to which new sandboxes belong.</param>
/// <param name="seesAll">Whether the caller is an administrator.</param>
public sealed class ProjectSandboxes(SandboxRegistry registry, string project = Project.DefaultName, bool seesAll = true)
{
    /// <summary>Name of the caller's project.</summary>
    public string Project => project;

    /// <summary>Creates a sandbox of the project.</summary>
    /// <exception cref="PandoraException">The request is invalid or above a bound, or no microVM became ready in time.</exception>
    public Task<CreatedSandbox> CreateAsync(SandboxRequest request, CancellationToken cancellationToken) =>
        registry.CreateAsync(request with { Project = project }, cancellationToken);

    /// <summary>Lists the state of the sandboxes: first the undecided ones of an earlier server, then the others, oldest first.</summary>
    /// <exception cref="PandoraException">The server has just started and does not know its sandboxes yet.</exception>
    public IReadOnlyList<SandboxStatus> List() =>
        seesAll ? registry.List() : [.. registry.List().Where(s => s.Project == project)];

    /// <summary>Finds a sandbox.</summary>
    /// <exception cref="PandoraException">There is no sandbox with that id, or it has ended; the message says how.</exception>
    public Sandbox Get(string id) => registry.Get(id, Visible);

    /// <summary>Finds a sandbox for an operation, and records the operation as failed when there is none.</summary>
    /// <exception cref="PandoraException">There is no sandbox with that id, or it has ended; the message says how.</exception>
    public Sandbox GetFor(string id, SandboxOperation operation) => registry.GetFor(id, operation, Visible);

    /// <inheritdoc cref="GetFor(string, SandboxOperation)"/>
    public Sandbox GetFor(string id, AuditOperation operation) => registry.GetFor(id, operation, Visible);

    /// <summary>Whether a sandbox may be seen, also one that has ended.</summary>
    public bool IsVisible(string id) => registry.IsKnown(id, Visible);

    /// <summary>Whether a sandbox has ended, which <see cref="Get"/> answers like one that never was where its client ended it.</summary>
    public bool HasEnded(string id) => registry.HasEnded(id, Visible);

    /// <summary>Ends a sandbox because its client asked for it.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="complete">Wait until everything, including the slot, is cleaned up, and report it.</param>
    /// <exception cref="PandoraException">There is no sandbox with that id, or it has ended.</exception>
    public Task<EndedSandbox> DeleteAsync(string id, bool complete) => registry.DeleteAsync(id, complete, Visible);

    private string? Visible => seesAll ? null : project;
}
