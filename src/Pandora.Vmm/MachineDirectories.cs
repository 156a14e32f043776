using Pandora.Vmm.Firecracker;

namespace Pandora.Vmm;

/// <summary>
/// The directories that VMMs keep for machines besides the run directories. It covers every VMM: the operator may have changed the VMM.
/// </summary>
public static class MachineDirectories
{
    /// <summary>
    /// Paths of the sockets in one machine's directory. A link or file that the VMM has put in the place of a socket is ignored.
    /// </summary>
    public static IReadOnlyList<string> SocketsIn(string directory) => FirecrackerJail.SocketsIn(directory);

    /// <summary>Removes the directories of all machines except some. The processes of the other machines have ended.</summary>
    /// <param name="parent">Directory with a subdirectory per VMM, which contains a directory per machine, named by its id.</param>
    /// <param name="living">Ids of the machines whose directories remain.</param>
    public static void RemoveOrphans(string parent, IReadOnlySet<string> living) => FirecrackerJail.RemoveAll(parent, living);
}
